/** One job: what it does now, then its output, its timeline, its record and what it left. */
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { plain, whole } from "../../app/format";
import { whyNoActions } from "../../app/acting";
import { notices, switchNotices } from "../../app/notifications";
import { usePageTitle } from "../../app/title";
import { href, moment, place, queryValue, setQuery } from "../../app/router";
import { Action } from "../../components/action";
import { Output } from "../../components/output/output";
import { Trouble } from "../../components/parts";
import { signOf } from "../../components/status";
import { isOver } from "../../domain/job_now";
import { timelineOf } from "../../domain/job_steps";
import { happenings, JobEvents } from "./job_events";
import { NowPanel } from "./now_panel";
import { PayPanel } from "./pay_panel";
import { Record } from "./record";
import { ResultsTab } from "./results";
import { StopDialog } from "./stop_dialog";
import { TimelineView } from "./timeline";
import type { JobRow } from "./shapes";
import "../../styles/sp_job.css";

export function ServiceProviderJob({ params }: { params: Record<string, string> }) {
  const jobId = params["id"] ?? "";
  const at = moment.value;
  const follow = useMemo(() => new JobEvents(jobId, at), [jobId, at]);
  useEffect(() => () => follow.close(), [follow]);
  const stopping = useSignal(false);
  const job = follow.job.value;
  const events = follow.events.value;
  const timeline = useMemo(() => timelineOf(happenings(events)), [events]);
  const pastMs = at ? Date.parse(events.at(-1)?.time ?? "") || 0 : 0;
  usePageTitle(job ? plain(job.image) : "Job", job ? `${signOf(job.status)} ${job.status}` : "");
  if (!job) return <section><Trail jobId={jobId} /><Trouble text={follow.error.value} retry={() => follow.reload()} />{!follow.error.value && <p class="faint" aria-busy="true">The job is being loaded.</p>}</section>;
  const over = isOver(job.status);
  return (
    <section class="sp-job">
      <Trail jobId={jobId} />
      <div class="row title">
        <h1>{plain(job.image)}</h1>
        <span class="row push">
          {!over && !at && notices.value === "off" && <button onClick={() => void switchNotices(true)}>Tell me when it ends</button>}
          <a class="button" href={href("/sp/new", { from: jobId })}>{over ? "Run again" : "Run one like this"}</a>
          {!over && <Action kind="danger" hindrance={timeline.stopping ? "It was told to stop; its provider has not ended it yet." : ""} onClick={() => (stopping.value = true)}>Stop…</Action>}
        </span>
      </div>
      <Trouble text={follow.error.value} retry={() => follow.reload()} />
      <NowPanel job={job} stopping={timeline.stopping} pastMs={pastMs} />
      {job.status === "awaiting" && !at && <PayPanel job={job} asked={events.find(({ topic }) => topic === "job.service_requested")} hindrance={whyNoActions.value} />}
      <Tabs job={job} counts={{ record: events.length, output: job.log_lines }}>
        {(tab) => tab === "output" ? <Output job={job} key={jobId} /> : tab === "record" ? <Record jobId={jobId} events={events} /> : tab === "results" ? <ResultsTab job={job} /> : <TimelineView timeline={timeline} pastMs={pastMs} />}
      </Tabs>
      {stopping.value && <StopDialog jobIds={[jobId]} nameOf={() => job.image} close={() => (stopping.value = false)} />}
    </section>
  );
}

const Trail = ({ jobId }: { jobId: string }) => <p class="trail"><a href={href("/sp")}>Jobs</a> / <code>{plain(jobId)}</code></p>;

const TABS = [["timeline", "Timeline"], ["output", "Output"], ["record", "Record"], ["results", "Results"]] as const;
type Tab = (typeof TABS)[number][0];

/** A link to an event opens the record, one to a line the output. */
function shownTab(otherwise: Tab): Tab {
  const [asked, { hash }] = [queryValue("tab"), place.value];
  if (/^E\d+$/.test(hash)) return "record";
  if (/^L\d+$/.test(hash)) return "output";
  return TABS.find(([tab]) => tab === asked)?.[0] ?? otherwise;
}

interface TabsProps {
  job: JobRow;
  counts: { record: number; output: number | null };
  children: (tab: Tab) => ComponentChildren;
}

function Tabs({ job, counts, children }: TabsProps) {
  const first = useRef<Tab>(job.started_at ? "output" : "timeline"); // it does not change under who looks at it
  const shown = shownTab(first.current);
  const count = (tab: Tab) => (tab === "record" ? ` ${whole(counts.record)}` : tab === "output" && counts.output ? ` ${whole(counts.output)}` : "");
  const choose = (tab: Tab) => {
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    setQuery({ tab }, false);
  };
  const keys = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? TABS.length - 1 : 0;
    const next = TABS[(TABS.findIndex(([tab]) => tab === shown) + by) % TABS.length];
    if (!by || !next) return;
    choose(next[0]);
    document.getElementById(`tab-${next[0]}`)?.focus();
  };
  return (
    <>
      <div class="tabs" role="tablist" aria-label="Job" onKeyDown={keys}>
        {TABS.map(([tab, name]) => (
          <button key={tab} role="tab" id={`tab-${tab}`} aria-selected={tab === shown} aria-controls="tab-panel" tabIndex={tab === shown ? 0 : -1} onClick={() => choose(tab)}>{name}<span class="faint">{count(tab)}</span></button>
        ))}
      </div>
      <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${shown}`}>{children(shown)}</div>
    </>
  );
}
