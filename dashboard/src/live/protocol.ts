import type { Reply } from "../api/reply";

/** What is said over `/api/v1/live/ws`, and between a page and the worker that holds that one websocket for all pages. */

/** A CloudEvent of the log. `data` fits the schema that `dataschema` names; `src/api/events.ts` has the types. */
export interface LogEvent {
  id: string;
  source: string;
  type: string;
  subject: string;
  time: string;
  position: number;
  streamversion: number;
  causationid?: string;
  correlationid?: string;
  hash: string;
  dataschema: string;
  data: Record<string, unknown>;
}

export interface OutputLine {
  seq: number;
  stream: "stdout" | "stderr";
  time: string;
  text: string;
  /** Its end is left out. */
  cut: boolean;
  /** Of the whole line. */
  size_bytes?: number;
  /** It was longer than what is kept as one line: the stream's next one is more of it. */
  goes_on?: boolean;
}

/** A line that has no end yet, as a progress bar draws it. Empty: it has ended. */
export interface GrowingLine {
  stream: "stdout" | "stderr";
  text: string;
}

export interface Problem {
  status: number;
  title: string;
  detail: string;
}

/** types: topics such as `job.completed` or `job.*`; none: all. */
export interface EventsWanted {
  subscribe: "events";
  after: number;
  types?: string[];
  job_id?: string;
}

export interface OutputWanted {
  subscribe: "output";
  job_id: string;
  after: number;
  /** Also lines that have no end yet. */
  progress?: boolean;
}

export interface UsageWanted {
  subscribe: "usage";
}

export type Wanted = EventsWanted | OutputWanted | UsageWanted;
export type ToServer = ({ id: string } & Wanted) | { id: string; unsubscribe: true };

/** One message of the server. Without `id` it is the heartbeat: the newest position of the log. */
export interface FromServer {
  id?: string;
  event?: LogEvent;
  caught_up?: number;
  lines?: OutputLine[];
  sealed?: boolean;
  growing?: GrowingLine[];
  usage?: unknown;
  error?: Problem;
  position?: number;
  time?: string;
}

/** How fresh the pages are. lastHeard: of `Date.now()`. aheadMs: of the DMS's clock, before this machine's. */
export interface Link {
  state: "connecting" | "live" | "reconnecting";
  position: number;
  lastHeard: number;
  aheadMs: number;
  /** Why it isn't live; empty when it is. */
  reason: string;
}

/** awake: it is looked at again. alive: the answer to a tick. ask: a name for the answer, which counts in all events up to
 *  `after`. */
export type FromPage = ToServer | { goodbye: true } | { awake: true } | { alive: true } | { ask: string; url: string; after: number };

/**
 * passed: subscriptions to events that have caught up were told all up to that position. tick: is to be answered.
 * rejoin: the page is not known here (any more), and subscribes anew. reply: null where the page is to ask itself.
 */
export type News = FromServer | { link: Link; passed: number; tick?: boolean } | { rejoin: true } | { answer: string; reply: Reply | null };

/** All that is new, in the order in which it happened. */
export type ToPage = readonly News[];

/** `io.nunet.dms.job.completed.v1` -> `job.completed`. */
export function topicOf(event: Pick<LogEvent, "type">): string {
  return event.type.replace(/^io\.nunet\.dms\./, "").replace(/\.v[0-9]+$/, "");
}

export function fits(event: LogEvent, wanted: EventsWanted): boolean {
  if (wanted.job_id && event.correlationid !== wanted.job_id && !event.subject.endsWith(wanted.job_id)) return false;
  if (!wanted.types?.length) return true;
  const topic = topicOf(event);
  return wanted.types.some((type) => type === topic || topic.startsWith(`${type.replace(/\.?\*$/, "")}.`));
}
