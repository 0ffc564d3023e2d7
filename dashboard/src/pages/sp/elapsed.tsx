/** What of a job changes with each second. */
import { duration, ntx } from "../../app/format";
import { moment } from "../../app/router";
import { now } from "../../app/clock";
import { Time } from "../../components/parts";
import { ifStopped } from "../../domain/job_money";
import type { JobRow } from "../../api/answers";

export const ranSeconds = (job: Pick<JobRow, "started_at" | "ended_at" | "duration_seconds">, nowMs: number): number =>
  job.ended_at ? job.duration_seconds : job.started_at ? Math.max(0, (nowMs - Date.parse(job.started_at)) / 1000) : 0;

export function Elapsed({ job }: { job: JobRow }) {
  if (!job.started_at) return <span class="none">–</span>;
  if (moment.value && !job.ended_at) return <small>since <Time at={job.started_at} /></small>;
  return <span>{duration(ranSeconds(job, job.ended_at ? 0 : now.value))}</span>;
}

/** Over: what it cost. Open: what a stop would cost, of what it costs at most. */
export function Cost({ job }: { job: JobRow }) {
  if (job.cost !== "") return <span title="what it cost">{ntx(job.cost)}</span>;
  if (job.ended_at) return <span class="none" title="nothing was paid for it">–</span>;
  if (job.status !== "running" || moment.value) return <span class="faint" title="what it costs at most">≤ {ntx(job.price)}</span>;
  const { cost } = ifStopped(job, ranSeconds(job, now.value));
  return <span title={`stopped now it costs ${ntx(cost)}, completed ${ntx(job.price)}`}>{ntx(cost).replace(" NTX", "")} of {ntx(job.price)}</span>;
}
