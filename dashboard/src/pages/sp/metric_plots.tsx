/** The figures that the job prints (`dms-metric loss=0.25 step=100`), one plot each. */
import { useEffect, useMemo } from "preact/hooks";
import { whole } from "../../app/format";
import { plain } from "../../app/format";
import { useView } from "../../app/view";
import { Chart } from "../../components/chart";
import { isOver } from "../../domain/job_now";
import type { JobRow, Metrics } from "../../api/answers";

const REFRESH_MS = 5000;
const figure = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });

export function MetricPlots({ job }: { job: JobRow }) {
  const metrics = useView<Metrics>(`/jobs/${encodeURIComponent(job.job_id)}/metrics`, { types: ["job.log_sealed", "job.completed", "job.failed"], jobId: job.job_id, presentOnly: true });
  const running = !isOver(job.status);
  useEffect(() => {
    if (!running) return; // output lines are no events
    const timer = setInterval(metrics.reload, REFRESH_MS);
    return () => clearInterval(timer);
  }, [running]);
  const body = metrics.answer.value?.body;
  if (!body?.series.length) return null;
  return (
    <section class="card" aria-label="Figures"><h2>Figures</h2>
      <div class="grid">
        {body.series.map(({ name, count, points }) => (
          <figure key={name}>
            <figcaption><b>{plain(name)}</b> <span class="faint">{whole(count)} values{points.at(-1) && `, step ${points.at(-1)?.step}`}</span></figcaption>
            <Plot name={plain(name)} points={points} />
          </figure>
        ))}
      </div>
      {body.left_out > 0 && <p class="faint">{whole(body.left_out)} more names are not kept.</p>}
    </section>
  );
}

function Plot({ name, points }: { name: string; points: Metrics["series"][number]["points"] }) {
  const [times, values] = useMemo(() => [points.map(({ step }) => step), points.map(({ value }) => value)] as const, [points]);
  return <Chart label={name} x="step" times={times} lines={[{ name, values, tone: "accent" }]} value={(value) => figure.format(value)} />;
}
