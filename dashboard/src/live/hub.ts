import { Answers } from "./answers";
import { LiveConnection, type SocketLike } from "./connection";
import { fits, type EventsWanted, type FromPage, type FromServer, type Link, type LogEvent, type News, type Wanted } from "./protocol";
import { Round, Tab, type Port } from "./tab";

/** Events kept for pages that join a moment after their snapshot. */
const KEPT_EVENTS = 2_000;
const SHARED = "shared";
const USAGE = "usage";
/** Between two pages that are told what can wait, and until the last of many is told. */
const TURN_MS = 50;
const LONGEST_ROUND_MS = 4_000;
/** Answers that a page asked for at one moment go as one message. */
const ANSWER_WAIT_MS = 10;
export const TICK_MS = 5_000;
/** A page that answers none of so many ticks is gone, or sleeps: when it wakes it joins again where it stood. */
const SILENT_TICKS = 12;

interface Reader {
  port: Port;
  /** The page's own name of its subscription. */
  id: string;
  wanted: Wanted;
  /** Whether the shared stream feeds it, rather than one of its own. */
  shares: boolean;
}

/**
 * Shares one websocket among all open pages of a browser. One stream of all events feeds every page; a page whose position
 * is older than what is kept here catches up by a stream of its own first. Pages that all draw at once hold each other up,
 * and the event that comes just then: what can wait is told to one page after the other.
 */
export class Hub {
  private readonly connection: LiveConnection;
  private readonly readers = new Map<string, Reader>();
  private readonly tabs = new Map<Port, Tab>();
  private readonly round = new Round();
  private readonly answers = new Answers();
  private readonly recent: LogEvent[] = [];
  /** All events after this position are in `recent`; null: the shared stream has not begun. */
  private recentAfter: number | null = null;
  private caughtUp = false;
  private nextTab = 0;
  private linkTold: Link | null = null;

  constructor(open: () => SocketLike, private readonly keptEvents = KEPT_EVENTS) {
    this.connection = new LiveConnection(open, (message) => this.route(message), (link) => this.linkChanged(link));
  }

  join(port: Port): void {
    const tab = new Tab(port, this.nextTab++, this.round, () => this.freshness);
    this.tabs.set(port, tab);
    tab.tellLink();
  }

  leave(port: Port): void {
    for (const [key, reader] of this.readers) if (reader.port === port) this.end(key);
    this.tabs.get(port)?.close();
    this.tabs.delete(port);
  }

  /** To be called each TICK_MS. */
  tick(): void {
    for (const [port, tab] of this.tabs) if (++tab.silentTicks > SILENT_TICKS) this.leave(port);
    this.inTurn([...this.tabs.values()], (tab, waitMs) => tab.tellLater({ ...this.freshness, tick: true }, waitMs));
  }

  check(): void {
    this.connection.check();
  }

  take(port: Port, message: FromPage): void {
    if ("goodbye" in message) return this.leave(port);
    const tab = this.tabs.get(port);
    if (!tab) return port.post([{ rejoin: true }]);
    tab.silentTicks = 0;
    if ("awake" in message) return this.check();
    if ("alive" in message) return;
    if ("ask" in message) return void this.answers.of(message.url, message.after).then((reply) => tab.tellLater({ answer: message.ask, reply }, ANSWER_WAIT_MS));
    const key = `${tab.number}.${message.id}`;
    this.end(key);
    if ("unsubscribe" in message) return;
    const { id, ...wanted } = message;
    this.begin(key, { port, id, wanted, shares: false });
  }

  private get freshness() {
    return { link: this.connection.link, passed: this.caughtUp ? this.connection.passed(SHARED) : 0 };
  }

  private begin(key: string, reader: Reader): void {
    this.readers.set(key, reader);
    if (reader.wanted.subscribe === "usage") return this.followUsage(reader);
    if (reader.wanted.subscribe === "events" && this.replay(reader, reader.wanted)) return;
    this.connection.subscribe(key, reader.wanted);
  }

  private followUsage(reader: Reader): void {
    reader.shares = true;
    if (this.sharing("usage").length === 1) this.connection.subscribe(USAGE, reader.wanted);
  }

  /** From what is kept here, then by the shared stream. False when what the page needs is not kept. */
  private replay(reader: Reader, wanted: EventsWanted): boolean {
    if (this.recentAfter === null || wanted.after < this.recentAfter) return false;
    reader.shares = true;
    for (const event of this.recent) if (event.position > wanted.after && fits(event, wanted)) this.tell(reader.port, { id: reader.id, event });
    wanted.after = Math.max(wanted.after, this.connection.passed(SHARED));
    if (this.caughtUp) this.tell(reader.port, { id: reader.id, caught_up: wanted.after });
    return true;
  }

  private end(key: string): void {
    const reader = this.readers.get(key);
    this.readers.delete(key);
    if (reader && !reader.shares) this.connection.unsubscribe(key);
    if (reader?.wanted.subscribe === "usage" && this.sharing("usage").length === 0) this.connection.unsubscribe(USAGE);
  }

  private route(message: FromServer): void {
    if (message.id === SHARED) return this.share(message);
    if (message.id === USAGE) return this.shareUsage(message);
    const [key, reader] = [message.id ?? "", this.readers.get(message.id ?? "")];
    if (!reader) return;
    if (message.error || message.sealed) this.readers.delete(key);
    if (message.caught_up !== undefined && reader.wanted.subscribe === "events") this.toShared(key, reader, reader.wanted, message.caught_up);
    else this.tell(reader.port, { ...message, id: reader.id });
  }

  /** A reader that has caught up goes on with the stream of all; where that is ahead by too much, it catches up again. */
  private toShared(key: string, reader: Reader, wanted: EventsWanted, position: number): void {
    wanted.after = Math.max(wanted.after, position);
    this.connection.unsubscribe(key);
    this.begin(key, reader);
  }

  private share(message: FromServer): void {
    if (message.error) return this.beginAnew(message.error);
    if (message.caught_up !== undefined) {
      this.caughtUp = true;
      for (const { port, id } of this.sharing("events")) this.tell(port, { id, caught_up: message.caught_up });
    }
    const { event } = message;
    if (!event) return;
    this.recent.push(event);
    if (this.recent.length > this.keptEvents) this.recentAfter = this.recent.shift()?.position ?? this.recentAfter;
    for (const { port, id, wanted } of this.sharing("events"))
      if (wanted.subscribe === "events" && event.position > wanted.after && fits(event, wanted)) this.tell(port, { id, event });
  }

  private shareUsage(message: FromServer): void {
    if (message.error) return this.endShared("usage", message.error);
    this.inTurn(this.sharing("usage"), ({ port, id }, waitMs) => this.tabs.get(port)?.tellLater({ ...message, id }, waitMs));
  }

  private sharing(kind: Wanted["subscribe"]): Reader[] {
    return [...this.readers.values()].filter(({ shares, wanted }) => shares && wanted.subscribe === kind);
  }

  /** What was kept does not lead on to what the log has now, as after a long sleep: pages begin anew from a snapshot. */
  private beginAnew(error: NonNullable<FromServer["error"]>): void {
    [this.recentAfter, this.caughtUp] = [null, false];
    this.recent.length = 0;
    this.endShared("events", error);
  }

  private endShared(kind: Wanted["subscribe"], error: NonNullable<FromServer["error"]>): void {
    for (const [key, { port, id, shares, wanted }] of this.readers) {
      if (!shares || wanted.subscribe !== kind) continue;
      this.readers.delete(key);
      this.tell(port, { id, error });
    }
  }

  private linkChanged(link: Link): void {
    const { state, position, reason } = link;
    if (state !== "live") this.caughtUp = false;
    if (this.recentAfter === null && state === "live") {
      this.recentAfter = position;
      this.connection.subscribe(SHARED, { subscribe: "events", after: position });
    }
    const told = this.linkTold;
    this.linkTold = link;
    const isBeat = told?.state === state && told.position === position && told.reason === reason;
    this.inTurn([...this.tabs.values()], (tab, waitMs) => (isBeat ? tab.tellLinkLater(waitMs) : tab.tellLink()));
  }

  private tell(port: Port, news: News): void {
    this.tabs.get(port)?.tell(news);
  }

  private inTurn<T>(all: readonly T[], tell: (one: T, waitMs: number) => void): void {
    const turnMs = Math.min(TURN_MS, LONGEST_ROUND_MS / all.length);
    all.forEach((one, turn) => tell(one, turn * turnMs));
  }
}

/** The address of the socket on the page's own origin. */
export function liveAddress(location: Pick<Location, "protocol" | "host">): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/api/v1/live/ws`;
}
