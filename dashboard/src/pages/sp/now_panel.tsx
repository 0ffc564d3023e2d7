/** The job as it is now, above all that it was: state, reason, whose fault, the money, what comes next. */
import { duration, localTime, ntx, plain } from "../../app/format";
import { now as clock } from "../../app/clock";
import { Peer, Time } from "../../components/parts";
import { Status } from "../../components/status";
import { ifStopped, nextShare } from "../../domain/job_money";
import { isOver, now } from "../../domain/job_now";
import { ranSeconds } from "./elapsed";
import type { JobRow } from "../../api/answers";

/** pastMs: the moment that is shown, Unix milliseconds; 0: now. */
export function NowPanel({ job, stopping, pastMs }: { job: JobRow; stopping: boolean; pastMs: number }) {
  const over = isOver(job.status);
  const seconds = job.status === "running" ? ranSeconds(job, pastMs || clock.value) : job.duration_seconds;
  const { headline, fault, money, next } = now(job, seconds, stopping);
  return (
    <section class={`card now ${over ? job.status : "open"}`} aria-label="Now">
      <p class="headline" aria-live="polite"><Status status={job.status} unreachable={job.unreachable && !over} /> {plain(headline)} {fault}</p>
      <dl class="facts">
        <div><dt>Money</dt><dd>{money}</dd></div>
        <div><dt>Next</dt><dd>{next}</dd></div>
        {!over && <div><dt>Cost so far</dt><dd><CostLine job={job} seconds={seconds} /></dd></div>}
        <div><dt>Provider</dt><dd><Peer id={job.peer} />{job.attempts > 1 && ` · attempt ${job.attempt} of ${job.attempts}`}</dd></div>
        <div><dt>Time</dt><dd>asked for <Time at={job.requested_at} />{job.started_at && <>, started <Time at={job.started_at} /></>}{job.ended_at && <>, ended <Time at={job.ended_at} /></>}
          {job.started_at && <> · {job.ended_at ? "ran" : "runs for"} {duration(seconds)} of {job.minutes} min</>}</dd></div>
        {job.exit_code !== null && <div><dt>Exit code</dt><dd>{job.exit_code}</dd></div>}
        {job.resumed_from && <div><dt>Went on from</dt><dd>checkpoint <code title={job.resumed_from}>{job.resumed_from.slice(0, 12)}</code></dd></div>}
      </dl>
      {job.failed_attempts.length > 0 && <PastFailures job={job} />}
    </section>
  );
}

/** So far against the bound, with the moment from which a stop costs more. */
function CostLine({ job, seconds }: { job: JobRow; seconds: number }) {
  if (job.status !== "running") return <>nothing of {ntx(job.price)} at most</>;
  const { cost } = ifStopped(job, seconds);
  const more = nextShare(job.minutes, seconds);
  return (
    <span class="cost-line"><meter min={0} max={job.minutes * 60} value={Math.min(seconds, job.minutes * 60)} aria-label="Time used" />
      {" "}{ntx(cost)} of {ntx(job.price)} if it were stopped now{more && job.started_at && <span class="faint"> · {more.percent} % from {localTime(Date.parse(job.started_at) + more.atSeconds * 1000)} on</span>}</span>
  );
}

/** Grey: the job has got over them. */
function PastFailures({ job }: { job: JobRow }) {
  return (
    <details class="past"><summary>{job.failed_attempts.length === 1 ? "An attempt" : `${job.failed_attempts.length} attempts`} failed before</summary>
      <ul>{job.failed_attempts.map((one) => <li key={one.attempt}>attempt {one.attempt} with <Peer id={one.peer} /> at <Time at={one.failed_at} />: {plain(one.reason)}</li>)}</ul>
    </details>
  );
}

