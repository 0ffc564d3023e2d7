/** One job of the list. */
import { plain } from "../../app/format";
import { href } from "../../app/router";
import { Action } from "../../components/action";
import { Peer, Time } from "../../components/parts";
import { Status } from "../../components/status";
import { isOver } from "../../domain/job_now";
import { Cost, Elapsed } from "./elapsed";
import type { JobRow } from "../../api/answers";

interface Props {
  job: JobRow;
  current: boolean;
  selected: boolean;
  select: (range: boolean) => void;
  stop: () => void;
}

export function JobListRow({ job, current, selected, select, stop }: Props) {
  const over = isOver(job.status);
  return (
    <div role="listitem" class={`job-row${current ? " current" : ""}${selected ? " selected" : ""}`} aria-current={current ? "true" : undefined}>
      <input type="checkbox" class="above" checked={selected} aria-label={`Select job ${job.job_id}`} onClick={(event) => select(event.shiftKey)} />
      <Status status={job.status} unreachable={job.unreachable && !over} />
      <span class="what">
        <a class="open" href={href(`/sp/jobs/${job.job_id}`)}>{plain(job.image)}</a>
        <small>{over && job.reason ? plain(job.reason) : `${job.job_id.slice(0, 8)}…${job.job_id.slice(-4)}`}{job.attempt > 1 && ` · attempt ${job.attempt} of ${job.attempts}`}</small>
      </span>
      <span class="peer"><Peer id={job.peer} /></span>
      <span class="when"><Time at={job.requested_at} /></span>
      <span class="number ran"><Elapsed job={job} /></span>
      <span class="number cost"><Cost job={job} /></span>
      <span class="act above">
        {over
          ? <a class="button" href={href("/sp/new", { from: job.job_id })}>Run again</a>
          : <Action need="steer jobs" onClick={stop}>Stop…</Action>}
      </span>
    </div>
  );
}

/** A row that is not here yet. */
export const MissingRow = () => <div role="listitem" class="job-row missing" aria-busy="true"><span /><span class="faint">loading</span></div>;
