/** What is on record: each event with its cause and its links, both sides' signatures, and whether they hold. */
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { address } from "../../api/client";
import { plain, whole } from "../../app/format";
import { place } from "../../app/router";
import { whyNoExport } from "../../app/session";
import { Time } from "../../components/parts";
import { Press } from "../../components/press";
import { Verification } from "./verification";
import type { JobEvent } from "../../api/answers";
import "../../styles/record.css";

interface Signed {
  topic?: string;
  position?: number;
  signature?: string;
  hash?: string;
}

export function Record({ jobId, events }: { jobId: string; events: readonly JobEvent[] }) {
  const byId = new Map(events.map((event) => [event.event_id, event]));
  return (
    <section aria-label="Record">
      <Verification jobId={jobId} />
      <p class="row"><Export jobId={jobId} />
        <span class="faint">{whole(events.length)} event{events.length === 1 ? "" : "s"}; <code>nunet audit verify --export FILE</code> checks them without this node</span></p>
      <ol class="record">{events.map((event) => <Event key={event.position} event={event} cause={byId.get(event.causation_id)} />)}</ol>
    </section>
  );
}

function Export({ jobId }: { jobId: string }) {
  const text = "Export, with its proofs";
  return whyNoExport.value ? <Press why={whyNoExport.value}>{text}</Press> : <a class="button" href={address("/events/export", { job_id: jobId })} download={`job-${jobId}.jsonl`}>{text}</a>;
}

function Event({ event, cause }: { event: JobEvent; cause: JobEvent | undefined }) {
  const anchor = `E${event.position}`;
  const chosen = place.value.hash === anchor;
  const open = useSignal(chosen);
  useEffect(() => {
    if (!chosen) return;
    open.value = true;
    document.getElementById(anchor)?.scrollIntoView({ block: "center" });
  }, [chosen]);
  const record = event.data["record"] as Signed | undefined;
  return (
    <li id={anchor} class={chosen ? "chosen" : undefined}>
      <div class="row">
        <a href={`#${anchor}`} title="Link to this event">{whole(event.position)}</a>
        <b>{plain(event.topic)}</b>
        {record?.topic && <span>says <b>{plain(record.topic)}</b></span>}
        <Time at={event.time} exact />
        <span class="faint">{cause ? <>because of <a href={`#E${cause.position}`}>{whole(cause.position)} {plain(cause.topic)}</a></> : event.causation_id ? <>by command <code>{event.causation_id.slice(-12)}</code></> : "by itself"}</span>
        <span class="push faint">{record?.signature ? "signed by the provider" : "in this node's chain"}</span>
        <button class="quiet" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>{open.value ? "less" : "more"}</button>
      </div>
      {open.value && (
        <dl class="facts">
          <div><dt>Data</dt><dd><pre>{plainJson(event.data)}</pre></dd></div>
          {record?.signature && <div><dt>Provider's signature</dt><dd><code class="whole">{plain(record.signature)}</code> over <code class="whole">{plain(record.hash ?? "")}</code></dd></div>}
          <div><dt>Link of the chain</dt><dd><code class="whole">{event.hash}</code></dd></div>
          <div><dt>Event</dt><dd><code>{event.event_id}</code>, version {event.aggregate_version} of <code>{plain(event.aggregate_id)}</code>{event.traceparent && <>, trace <code>{plain(event.traceparent)}</code></>}</dd></div>
        </dl>
      )}
    </li>
  );
}

const plainJson = (data: unknown): string => JSON.stringify(data, null, 2).split("\n").map(plain).join("\n");
