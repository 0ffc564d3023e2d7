/** The page's side of the live stream: subscriptions as callbacks, and how fresh what is shown is. */
import { signal } from "@preact/signals";
import { Hub, liveAddress } from "./hub";
import type { FromPage, FromServer, GrowingLine, Link, LogEvent, OutputLine, OutputWanted, Problem, ToPage, ToServer, Wanted } from "./protocol";

export const link = signal<Link>({ state: "connecting", position: 0, lastHeard: 0, reason: "" });

type Listener = (message: FromServer) => void;
const listeners = new Map<string, Listener>();
let send: ((message: FromPage) => void) | null = null;
let nextId = 0;

function receive(message: ToPage): void {
  if ("link" in message) link.value = message.link;
  else listeners.get(message.id ?? "")?.(message);
}

/** By the worker that all pages share; a browser without such workers has a socket for each page. */
function connected(): (message: FromPage) => void {
  if (send) return send;
  const address = document.querySelector<HTMLMetaElement>('meta[name="live-worker"]')?.content;
  if (address && "SharedWorker" in globalThis) {
    const { port } = new SharedWorker(address, { type: "module", name: "dms-live" });
    port.onmessage = ({ data }: MessageEvent<ToPage>) => receive(data);
    addEventListener("pagehide", () => port.postMessage({ goodbye: true } satisfies FromPage));
    send = (message) => port.postMessage(message);
  } else {
    const hub = new Hub(() => new WebSocket(liveAddress(location)));
    const port = { post: receive };
    hub.join(port);
    send = (message) => hub.take(port, message);
  }
  return send;
}

function subscribe(wanted: Wanted, listener: Listener): () => void {
  const say = connected();
  const id = `s${nextId++}`;
  listeners.set(id, listener);
  say({ id, ...wanted } as ToServer);
  return () => {
    listeners.delete(id);
    say({ id, unsubscribe: true });
  };
}

export interface EventsOptions {
  after: number;
  types?: string[];
  jobId?: string;
  caughtUp?: (position: number) => void;
  failed?: (problem: Problem) => void;
}

/** Calls `take` for each event after a position, for ever. Returns what ends it. */
export function onEvents(options: EventsOptions, take: (event: LogEvent) => void): () => void {
  const { after, types, jobId, caughtUp, failed } = options;
  const wanted: Wanted = { subscribe: "events", after, ...(types && { types }), ...(jobId && { job_id: jobId }) };
  return subscribe(wanted, (message) => {
    if (message.event) take(message.event);
    if (message.caught_up !== undefined) caughtUp?.(message.caught_up);
    if (message.error) failed?.(message.error);
  });
}

/** Calls `take` with the lines of a job behind `after`, as they come; sealed: there will be no more. */
export function onOutput(
  wanted: Omit<OutputWanted, "subscribe">,
  take: (told: { lines?: OutputLine[]; sealed?: boolean; growing?: GrowingLine[] }) => void,
  failed?: (problem: Problem) => void,
): () => void {
  return subscribe({ subscribe: "output", ...wanted }, (message) => {
    if (message.lines || message.growing) take(message);
    if (message.error) failed?.(message.error);
  });
}

export function onUsage(take: (usage: unknown) => void): () => void {
  return subscribe({ subscribe: "usage" }, (message) => {
    if (message.usage) take(message.usage);
  });
}

/** Opens the stream though nothing is subscribed to yet, so that its freshness is known. */
export function openLive(): void {
  connected();
}
