/** A line chart of uPlot that follows its data and its box. Times are the viewer's own, by the 24-hour clock. */
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { colourOf, onThemeChange } from "../app/theme_news";

/** It is drawn anew where an array is another one, not where its values are: what makes them should remember them. */
interface Props {
  /** Unix seconds, or steps. */
  times: readonly number[];
  x?: "time" | "step";
  lines: readonly { name: string; values: readonly (number | null)[]; tone: string }[];
  heightPx?: number;
  /** What is on the vertical axis, for those who do not see it. */
  label: string;
  value: (value: number) => string;
  /** As high as the scale is at least, in steps that are worth a tick. */
  leastTop?: number;
  /** Memory: ticks at powers of two. */
  binary?: boolean;
}

const POWERS_OF_TWO = Array.from({ length: 24 }, (_, power) => 2 ** power);

/** Hours and minutes, with seconds where ticks are closer than a minute. */
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const CLOCK_SECONDS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
/** Two minutes at least: few samples are no reason for a scale of years. */
const SHORTEST_SECONDS = 120;
const shownTime = (self: uPlot): [number, number] => {
  const times = self.data[0] ?? [];
  const last = times.at(-1) ?? 0;
  return [Math.min(times[0] ?? last, last - SHORTEST_SECONDS), last];
};
const clock = (_self: uPlot, ticks: number[], _axis: number, _space: number, step: number): string[] =>
  ticks.map((tick) => (step < 60 ? CLOCK_SECONDS : CLOCK).format(tick * 1000));

export function Chart({ times, x = "time", lines, heightPx = 140, label, value, leastTop = 0, binary = false }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const names = lines.map(({ name }) => name).join("\n");
  useLayoutEffect(() => { // before it is painted: what is below keeps its place
    const element = box.current;
    if (!element) return;
    const [ink, faint] = [() => colourOf(element, "text-2"), () => colourOf(element, "border")];
    const axis = { stroke: ink, grid: { stroke: faint, width: 1 }, ticks: { stroke: faint } };
    const made = new uPlot(
      {
        width: element.clientWidth || 300,
        height: heightPx,
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { time: x === "time", ...(x === "time" && { range: shownTime }) }, y: { range: (_self, low, high) => [Math.min(0, low), Math.max(high * 1.05, leastTop) || 1] } },
        axes: [{ ...axis, space: 74, ...(x === "time" && { values: clock }) }, { ...axis, size: 76, ...(binary && { incrs: POWERS_OF_TWO }), values: (_self, ticks) => ticks.map((tick) => value(tick)) }],
        series: [{}, ...lines.map(({ name, tone }) => ({ label: name, stroke: () => colourOf(element, tone), width: 1.5, spanGaps: false, points: { show: false } }))],
      },
      [[], ...lines.map(() => [])] as unknown as uPlot.AlignedData,
      element,
    );
    plot.current = made;
    const sizes = new ResizeObserver(() => made.setSize({ width: element.clientWidth || 300, height: heightPx }));
    sizes.observe(element);
    const endOfThemes = onThemeChange(() => made.redraw());
    return () => {
      endOfThemes();
      sizes.disconnect();
      made.destroy();
    };
  }, [names, heightPx]);
  useEffect(() => plot.current?.setData([[...times], ...lines.map(({ values }) => [...values])] as uPlot.AlignedData), [times, ...lines.map(({ values }) => values), names, heightPx]);
  const latest = lines.map(({ name, values }) => `${name} ${values.at(-1) == null ? "unknown" : value(Number(values.at(-1)))}`).join(", ");
  return <div class="chart" ref={box} role="img" aria-label={`${label}: ${latest}`} />;
}
