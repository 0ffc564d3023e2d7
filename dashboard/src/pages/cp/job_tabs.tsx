/** What there is of a job beyond its figures: steps, output, record. Which one is shown is in the address. */
import { duration, plain } from "../../app/format";
import { queryValue, setQuery } from "../../app/router";
import { Output } from "../../components/output/output";
import { Time } from "../../components/parts";
import { timeline } from "./deployments";
import type { DeploymentDetail } from "./job";
import { JobRecord } from "./job_record";

const TABS = [["", "Timeline"], ["output", "Output"], ["record", "Record"]] as const;

export function JobTabs({ job }: { job: DeploymentDetail }) {
  const shown = queryValue("tab");
  return (
    <div class="card">
      <div class="row" role="tablist" aria-label="Of this job">
        {TABS.map(([tab, name]) => (
          <button role="tab" id={`tab-${tab}`} aria-selected={shown === tab} class={shown === tab ? "primary" : ""} onClick={() => setQuery({ tab })}>{name}</button>
        ))}
      </div>
      <div role="tabpanel" aria-labelledby={`tab-${shown}`}>
        {shown === "output" ? <Output key={job.job_id} job={job} /> : shown === "record" ? <JobRecord job={job} /> : <JobTimeline job={job} />}
      </div>
    </div>
  );
}

function JobTimeline({ job }: { job: DeploymentDetail }) {
  return (
    <ol class="steps" data-testid="timeline">
      {timeline(job.timeline).map((row) => (
        <li key={row.position}>
          <Time at={row.time} />
          <span title={row.event}>{plain(row.words)}</span>
          <span class="faint">{row.seconds === null ? "" : `+${duration(row.seconds)}`}</span>
          {row.note && <span class="note">{plain(row.note)}</span>}
        </li>
      ))}
    </ol>
  );
}
