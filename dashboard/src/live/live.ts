/** The page's side of the live stream: subscriptions as callbacks, and how fresh what is shown is. */
import { batch, effect, signal, untracked } from "@preact/signals";
import { Hub, liveAddress, TICK_MS as HUB_TICK_MS } from "./hub";
import type { FromServer, GrowingLine, Link, LogEvent, OutputLine, OutputWanted, Problem, ToPage, Wanted } from "./protocol";
import { Subscriber, type Channel } from "./subscriber";

export const link = signal<Link>({ state: "connecting", position: 0, lastHeard: 0, aheadMs: 0, reason: "" });

const TICK_MS = 5_000;
const AGAIN_MS = 5_000;
const address = globalThis.document?.querySelector<HTMLMetaElement>('meta[name="live-worker"]')?.content;
let workerIsBroken = false;

const subscriber = new Subscriber(
  (receive, broken) => {
    const take = (news: ToPage) => batch(() => receive(news)); // one look for all that is new
    return address && "SharedWorker" in globalThis && !workerIsBroken ? ofWorker(address, take, broken) : ofOwn(take);
  },
  (heard) => (link.value = heard),
);

/** By the worker that all pages share. A page of an older build has the worker of that build, or none any more. */
function ofWorker(address: string, receive: (message: ToPage) => void, broken: () => void): Channel {
  const worker = new SharedWorker(address, { type: "module", name: "dms-live" });
  worker.port.onmessage = ({ data }: MessageEvent<ToPage>) => receive(data);
  worker.onerror = () => {
    workerIsBroken = true;
    broken();
  };
  return { post: (message) => worker.port.postMessage(message), close: () => worker.port.close() };
}

/** A socket of the page's own, where there are no such workers. */
let ownHub: Hub | null = null;
function ofOwn(receive: (message: ToPage) => void): Channel {
  if (!ownHub) {
    const made = (ownHub = new Hub(() => new WebSocket(liveAddress(location))));
    setInterval(() => made.tick(), HUB_TICK_MS);
  }
  const [hub, port] = [ownHub, { post: receive }];
  hub.join(port);
  return { post: (message) => hub.take(port, message), close: () => hub.leave(port) };
}

const subscribe = (wanted: Wanted, listener: (message: FromServer) => void) => subscriber.subscribe(wanted, listener);

/** An answer that counts in all events up to a position, which is asked for once for all pages. null: ask yourself. */
export const askTogether = (url: string, after: number) => subscriber.askTogether(url, after);

export interface EventsOptions {
  /** A position; none: the newest one, as soon as it is known. */
  after?: number;
  types?: string[];
  jobId?: string;
  caughtUp?: (position: number) => void;
  failed?: (problem: Problem) => void;
}

/** Calls `take` for each event after a position, until it fails. Returns what ends it. */
export function onEvents(options: EventsOptions, take: (event: LogEvent) => void): () => void {
  const { after, types, jobId, caughtUp, failed } = options;
  if (after === undefined) return fromNewest((newest) => onEvents({ ...options, after: newest }, take));
  const wanted: Wanted = { subscribe: "events", after, ...(types && { types }), ...(jobId && { job_id: jobId }) };
  return subscribe(wanted, (message) => {
    if (message.event) take(message.event);
    if (message.caught_up !== undefined) caughtUp?.(message.caught_up);
    if (message.error) failed?.(message.error);
  });
}

/** Before the first word of the DMS the position is 0, and following from there tells the whole log. */
function fromNewest(begin: (after: number) => () => void): () => void {
  subscriber.join();
  const isKnown = ({ state }: Link) => state === "live"; // the first word says both
  if (isKnown(link.peek())) return begin(link.peek().position);
  let end = effect(() => {
    if (!isKnown(link.value)) return;
    end();
    end = untracked(() => begin(link.peek().position));
  });
  return () => end();
}

/** Calls `take` for each event from now on, for ever. Where the stream can't go on, as after a long sleep, it begins anew. */
export const onNews = (types: string[], take: (event: LogEvent) => void): (() => void) => forEver((failed) => onEvents({ types, failed }, take));

/** Who may not have it is not asked to wait for it. */
const FORBIDDEN = [401, 403];

function forEver(subscribed: (failed: (problem: Problem) => void) => () => void): () => void {
  let end: () => void = () => undefined;
  const begin = () => {
    end = subscribed(again);
  };
  const again = ({ status }: Problem) => {
    if (FORBIDDEN.includes(status)) return;
    const timer = setTimeout(begin, AGAIN_MS);
    end = () => clearTimeout(timer);
  };
  begin();
  return () => end();
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

/** Calls `take` with each sample of usage, for ever. */
export const onUsage = (take: (usage: unknown) => void): (() => void) =>
  forEver((failed) =>
    subscribe({ subscribe: "usage" }, (message) => {
      if (message.usage) take(message.usage);
      if (message.error) failed(message.error);
    }),
  );

/** Calls `act` each time that the DMS answers again after it was away. Returns what ends it. */
export function onReturn(act: () => void): () => void {
  let wasLive = link.peek().state === "live";
  return effect(() => {
    const isLive = link.value.state === "live";
    const returned = isLive && !wasLive;
    wasLive = isLive;
    if (returned) untracked(act);
  });
}

/** Opens the stream though nothing is subscribed to yet, so that its freshness is known, and keeps it over sleeps. */
export function openLive(): void {
  subscriber.join();
  setInterval(() => subscriber.tick(), TICK_MS);
  window.addEventListener("pagehide", () => subscriber.leave());
  window.addEventListener("pageshow", ({ persisted }) => persisted && wakeUp());
  window.addEventListener("online", () => subscriber.awake());
  document.addEventListener("visibilitychange", () => document.hidden || subscriber.awake());
}

/** The browser kept the page as it was: what it shows is old until the DMS is heard again, and then all is asked for anew. */
function wakeUp(): void {
  link.value = { ...link.peek(), state: "reconnecting", reason: "The page was asleep." };
  subscriber.rejoin();
}
