/** `/cp/jobs/:id`: a provider's page of one job. */
import "../../styles/provider.css";
import { cpu, memory, ntx, plain, whole } from "../../app/format";
import { href, moment } from "../../app/router";
import { usePageTitle } from "../../app/title";
import { now } from "../../app/clock";
import { Action } from "../../components/action";
import { Output } from "../../components/output/output";
import { Peer, Time, Trouble } from "../../components/parts";
import { Status } from "../../components/status";
import { Tabs } from "../../components/tabs";
import { useJobEvents } from "../sp/job_events";
import { Record } from "../sp/record";
import { endWords, isOpen, leftWords, secondsLeft } from "./deployments";
import { EndDialog } from "./end_job";
import { JobTimeline } from "./job_timeline";
import { endingJob, useUsage } from "./machine";
import { expected, rewardWords } from "./rewards";
import type { Deployment } from "../../api/answers";
import type { Usage } from "./usage";
import { JobUsage } from "./usage_view";

export function ComputeProviderJob({ params }: { params: Record<string, string> }) {
  const jobId = params["id"] ?? "";
  const follow = useJobEvents(jobId, moment.value);
  const [job, events] = [follow?.job.value, follow?.events.value ?? []];
  const { usage, come } = useUsage();
  usePageTitle(job?.image || "Job", job?.status ?? "");
  return (
    <section>
      <p class="crumbs"><a href={href("/cp")}>This machine</a> / <a href={href("/cp/jobs")}>jobs</a> / <code>{plain(jobId)}</code></p>
      <Trouble text={follow?.error.value ?? ""} retry={() => follow?.reload()} />
      {job && <JobSummary job={job} usage={usage.value} />}
      {job && (come.value || moment.value) && (
        <Tabs label="Of this job" first="timeline" tabs={[{ id: "timeline", name: "Timeline" }, { id: "output", name: "Output", count: job.log_lines ? whole(job.log_lines) : "" }, { id: "record", name: "Record", count: whole(events.length) }]}>
          {(tab) => (tab === "output" ? <Output key={jobId} job={job} /> : tab === "record" ? <Record jobId={jobId} events={events} /> : <JobTimeline events={events} />)}
        </Tabs>
      )}
      <EndDialog />
    </section>
  );
}

function JobSummary({ job, usage }: { job: Deployment; usage: Usage }) {
  const open = isOpen(job);
  return (
    <>
      <div class="row">
        <h1>{plain(job.image || job.service_type)}</h1>
        <Status status={job.status} />
        {open && !moment.value && <span>{leftWords(secondsLeft(job, now.value))}</span>}
        {open && <span class="push"><Action need="steer jobs" kind="danger" hindrance={job.status === "stopping" ? "It is being stopped." : ""} onClick={() => (endingJob.value = job)}>End</Action></span>}
      </div>
      <div class="card" data-testid="summary">
        {!open && <p><b>{plain(endWords(job))}</b></p>}
        {open && job.reason && <p>{plain(job.reason)}</p>}
        <div class="figures">
          <Figure title="for" value={<Peer id={job.peer} />} />
          <Figure title="reserved" value={`${cpu(job.cpu_mhz)}, ${memory(job.memory_mb)}${job.vram_mb ? `, ${memory(job.vram_mb)} of GPU` : ""}`} />
          <Figure title="asked for" value={<Time at={job.requested_at} />} />
          <Figure title="started" value={<Time at={job.started_at} />} />
          <Figure title={open ? "time limit" : "ended"} value={open ? `${job.minutes} min` : <Time at={job.ended_at} />} />
          <Reward job={job} />
        </div>
      </div>
      {!moment.value && (
        <div class="card" data-testid="job-usage">
          <h2>Used in the last hour</h2>
          <JobUsage samples={usage.jobs.get(job.job_id) ?? []} cpuMhz={job.cpu_mhz} memoryMb={job.memory_mb} />
        </div>
      )}
    </>
  );
}

function Figure({ title, value }: { title: string; value: preact.ComponentChildren }) {
  return <div><b>{value}</b><span>{title}</span></div>;
}

/** Expected while it runs, known when it is over. */
function Reward({ job }: { job: Deployment }) {
  if (!isOpen(job)) return <Figure title={`earned: ${rewardWords(job)}`} value={ntx(job.cost || "0")} />;
  const { completed, rule } = expected(job, moment.value ? NaN : now.value);
  return <Figure title={`expected when it completes. ${rule}`} value={completed ? ntx(completed) : plain(job.price)} />;
}
