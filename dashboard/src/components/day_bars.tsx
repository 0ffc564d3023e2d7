/** A bar for each day, by uPlot. */
import { useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { colourOf, onThemeChange } from "../app/theme_news";

interface Props {
  /** Unix seconds of the days' beginnings, in UTC. */
  times: readonly number[];
  values: readonly number[];
  label: string;
  value: (value: number) => string;
}

const HEIGHT_PX = 190;
const DAY_SECONDS = 86_400;
const FEWEST_DAYS = 14;
const DAY = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", timeZone: "UTC" });

/** A fortnight at least, so that a bar is a day wide however few there are. */
function shownDays(times: readonly number[]): [number, number] {
  const [first, last] = [times[0] ?? 0, times.at(-1) ?? 0];
  return [Math.min(first, last - FEWEST_DAYS * DAY_SECONDS) - DAY_SECONDS / 2, last + DAY_SECONDS / 2];
}

export function DayBars({ times, values, label, value }: Props) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => { // before it is painted: what is below keeps its place
    const element = box.current;
    if (!element) return;
    const [ink, faint, fill] = [() => colourOf(element, "text-2"), () => colourOf(element, "border"), () => colourOf(element, "running")];
    const axis = { stroke: ink, grid: { stroke: faint, width: 1 }, ticks: { stroke: faint } };
    const plot = new uPlot(
      {
        width: element.clientWidth || 300,
        height: HEIGHT_PX,
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { range: () => shownDays(times) },
          y: { range: (_self, _low, high) => [0, high > 0 ? high * 1.1 : 1] },
        },
        axes: [
          { ...axis, space: 70, incrs: [1, 2, 7, 14, 30, 60, 120, 365].map((days) => days * DAY_SECONDS), values: (_self, ticks) => ticks.map((tick) => DAY.format(tick * 1000)) },
          { ...axis, size: 90, values: (_self, ticks) => ticks.map(value) },
        ],
        series: [{}, { label, stroke: fill, fill, points: { show: false }, paths: uPlot.paths.bars?.({ size: [0.7, 40], align: 0 }) ?? null }],
      } as uPlot.Options,
      [[...times], [...values]],
      element,
    );
    const sizes = new ResizeObserver(() => plot.setSize({ width: element.clientWidth || 300, height: HEIGHT_PX }));
    sizes.observe(element);
    const endOfThemes = onThemeChange(() => plot.redraw());
    return () => {
      endOfThemes();
      sizes.disconnect();
      plot.destroy();
    };
  }, [JSON.stringify(times), JSON.stringify(values)]);
  const most = Math.max(...values, 0);
  return <div class="chart" ref={box} role="img" aria-label={`${label}: ${values.length} days, at most ${value(most)} a day`} />;
}
