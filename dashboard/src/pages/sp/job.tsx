/** One job: what it does now, then its output, its timeline, its record and what it left. */
import { useMemo, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { plain, whole } from "../../app/format";
import { notices, switchNotices } from "../../app/notifications";
import { usePageTitle } from "../../app/title";
import { href, moment } from "../../app/router";
import { Action } from "../../components/action";
import { Output } from "../../components/output/output";
import { Trouble } from "../../components/parts";
import { signOf } from "../../components/status";
import { Tabs, type Tab } from "../../components/tabs";
import { isOver } from "../../domain/job_now";
import { timelineOf } from "../../domain/job_steps";
import { happenings, useJobEvents } from "./job_events";
import { NowPanel } from "./now_panel";
import { PayPanel } from "./pay_panel";
import { Record } from "./record";
import { ResultsTab } from "./results";
import { StopDialog } from "./stop_dialog";
import { TimelineView } from "./timeline";
import type { JobEvent, JobRow } from "../../api/answers";
import "../../styles/sp_job.css";

const NONE: readonly JobEvent[] = [];

export function ServiceProviderJob({ params }: { params: Record<string, string> }) {
  const jobId = params["id"] ?? "";
  const at = moment.value;
  const follow = useJobEvents(jobId, at);
  const stopping = useSignal(false);
  const job = follow?.job.value;
  const first = useRef<string | null>(null);
  if (job) first.current ??= job.started_at ? "output" : "timeline"; // it does not change under who looks at it
  const events = follow?.events.value ?? NONE;
  const timeline = useMemo(() => timelineOf(happenings(events)), [events]);
  const pastMs = at ? Date.parse(events.at(-1)?.time ?? "") || 0 : 0;
  usePageTitle(job ? plain(job.image) : "Job", job ? `${signOf(job.status)} ${job.status}` : "");
  const trouble = <Trouble text={follow?.error.value ?? ""} retry={() => follow?.reload()} />;
  if (!job) return <section><Trail jobId={jobId} />{trouble}{!follow?.error.value && <p class="faint" aria-busy="true">The job is being loaded.</p>}</section>;
  const over = isOver(job.status);
  return (
    <section class="sp-job">
      <Trail jobId={jobId} />
      <div class="row title">
        <h1>{plain(job.image)}</h1>
        <span class="row push">
          {!over && !at && notices.value === "off" && <button onClick={() => void switchNotices(true)}>Tell me when it ends</button>}
          <a class="button" href={href("/sp/new", { from: jobId })}>{over ? "Run again" : "Run one like this"}</a>
          {!over && <Action need="steer jobs" kind="danger" hindrance={timeline.stopping ? "It was told to stop; its provider has not ended it yet." : ""} onClick={() => (stopping.value = true)}>Stop…</Action>}
        </span>
      </div>
      {trouble}
      <NowPanel job={job} stopping={timeline.stopping} pastMs={pastMs} />
      {job.status === "awaiting" && !at && <PayPanel job={job} asked={events.find(({ topic }) => topic === "job.service_requested")} />}
      <Tabs label="Job" first={first.current ?? "timeline"} tabs={tabsOf(job, events.length)}>
        {(tab) => tab === "output" ? <Output job={job} key={jobId} /> : tab === "record" ? <Record jobId={jobId} events={events} /> : tab === "results" ? <ResultsTab job={job} /> : <TimelineView timeline={timeline} pastMs={pastMs} />}
      </Tabs>
      {stopping.value && <StopDialog jobIds={[jobId]} nameOf={() => job.image} close={() => (stopping.value = false)} />}
    </section>
  );
}

const Trail = ({ jobId }: { jobId: string }) => <p class="trail"><a href={href("/sp")}>Jobs</a> / <code>{plain(jobId)}</code></p>;

const tabsOf = (job: JobRow, events: number): Tab[] => [
  { id: "timeline", name: "Timeline" },
  { id: "output", name: "Output", count: job.log_lines ? whole(job.log_lines) : "" },
  { id: "record", name: "Record", count: whole(events) },
  { id: "results", name: "Results" },
];
