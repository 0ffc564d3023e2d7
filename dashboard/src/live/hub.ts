import { Answers } from "./answers";
import { LiveConnection, type SocketLike } from "./connection";
import { fits, type EventsWanted, type FromPage, type FromServer, type Link, type LogEvent, type ToPage, type Wanted } from "./protocol";

/** Events kept for pages that join a moment after their snapshot. */
const KEPT_EVENTS = 2_000;
const SHARED = "shared";
/** The shortest time between two words on how fresh the line is. The first news after a pause is told at once. */
const LINK_MS = 100;
export const TICK_MS = 5_000;
/** A page that answers none of so many ticks is gone, or sleeps: when it wakes it joins again where it stood. */
const SILENT_TICKS = 12;

export interface Port {
  post(message: ToPage): void;
}

interface Reader {
  port: Port;
  /** The page's own name of its subscription. */
  id: string;
  wanted: Wanted;
  /** Whether the shared stream feeds it, rather than one of its own. */
  shares: boolean;
}

interface Tab {
  number: number;
  silentTicks: number;
}

/**
 * Shares one websocket among all open pages of a browser. One stream of all events feeds every page; a page whose position
 * is older than what is kept here catches up by a stream of its own first.
 */
export class Hub {
  private readonly connection: LiveConnection;
  private readonly readers = new Map<string, Reader>();
  private readonly tabs = new Map<Port, Tab>();
  private readonly answers = new Answers();
  private readonly recent: LogEvent[] = [];
  /** All events after this position are in `recent`; null: the shared stream has not begun. */
  private recentAfter: number | null = null;
  private caughtUp = false;
  private nextTab = 0;
  private linkTold: Link["state"] | null = null;
  private linkToldMs = Number.NEGATIVE_INFINITY;
  private linkTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(open: () => SocketLike, private readonly keptEvents = KEPT_EVENTS) {
    this.connection = new LiveConnection(open, (message) => this.route(message), (link) => this.linkChanged(link));
  }

  join(port: Port): void {
    this.tabs.set(port, { number: this.nextTab++, silentTicks: 0 });
    port.post(this.freshness);
  }

  leave(port: Port): void {
    for (const [key, reader] of this.readers) if (reader.port === port) this.end(key);
    this.tabs.delete(port);
  }

  /** To be called each TICK_MS. */
  tick(): void {
    for (const [port, tab] of this.tabs) {
      if (++tab.silentTicks > SILENT_TICKS) this.leave(port);
      else port.post({ ...this.freshness, tick: true });
    }
  }

  check(): void {
    this.connection.check();
  }

  take(port: Port, message: FromPage): void {
    if ("goodbye" in message) return this.leave(port);
    const tab = this.tabs.get(port);
    if (!tab) return port.post({ rejoin: true });
    tab.silentTicks = 0;
    if ("awake" in message) return this.check();
    if ("alive" in message) return;
    if ("ask" in message) return void this.answers.of(message.url, message.after).then((reply) => port.post({ answer: message.ask, reply }));
    const key = `${tab.number}.${message.id}`;
    this.end(key);
    if ("unsubscribe" in message) return;
    const { id, ...wanted } = message;
    this.begin(key, { port, id, wanted, shares: false });
  }

  private get freshness(): { link: Link; passed: number } {
    return { link: this.connection.link, passed: this.caughtUp ? this.connection.passed(SHARED) : 0 };
  }

  private begin(key: string, reader: Reader): void {
    this.readers.set(key, reader);
    if (reader.wanted.subscribe === "events" && this.replay(reader, reader.wanted)) return;
    this.connection.subscribe(key, reader.wanted);
  }

  /** From what is kept here, then by the shared stream. False when what the page needs is not kept. */
  private replay(reader: Reader, wanted: EventsWanted): boolean {
    if (this.recentAfter === null || wanted.after < this.recentAfter) return false;
    reader.shares = true;
    for (const event of this.recent) if (event.position > wanted.after && fits(event, wanted)) reader.port.post({ id: reader.id, event });
    wanted.after = Math.max(wanted.after, this.connection.passed(SHARED));
    if (this.caughtUp) reader.port.post({ id: reader.id, caught_up: wanted.after });
    return true;
  }

  private end(key: string): void {
    const reader = this.readers.get(key);
    this.readers.delete(key);
    if (reader && !reader.shares) this.connection.unsubscribe(key);
  }

  private route(message: FromServer): void {
    if (message.id === SHARED) return this.share(message);
    const [key, reader] = [message.id ?? "", this.readers.get(message.id ?? "")];
    if (!reader) return;
    if (message.error || message.sealed) this.readers.delete(key);
    if (message.caught_up !== undefined && reader.wanted.subscribe === "events") this.toShared(key, reader, reader.wanted, message.caught_up);
    else reader.port.post({ ...message, id: reader.id });
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
      for (const { port, id } of this.sharing()) port.post({ id, caught_up: message.caught_up });
    }
    const { event } = message;
    if (!event) return;
    this.recent.push(event);
    if (this.recent.length > this.keptEvents) this.recentAfter = this.recent.shift()?.position ?? this.recentAfter;
    for (const { port, id, wanted } of this.sharing())
      if (wanted.subscribe === "events" && event.position > wanted.after && fits(event, wanted)) port.post({ id, event });
  }

  private sharing(): Reader[] {
    return [...this.readers.values()].filter(({ shares }) => shares);
  }

  /** What was kept does not lead on to what the log has now, as after a long sleep: pages begin anew from a snapshot. */
  private beginAnew(error: NonNullable<FromServer["error"]>): void {
    [this.recentAfter, this.caughtUp] = [null, false];
    this.recent.length = 0;
    for (const [key, { port, id, shares }] of this.readers) {
      if (!shares) continue;
      this.readers.delete(key);
      port.post({ id, error });
    }
  }

  private linkChanged(link: Link): void {
    if (link.state !== "live") this.caughtUp = false;
    if (this.recentAfter === null && link.state === "live") {
      this.recentAfter = link.position;
      this.connection.subscribe(SHARED, { subscribe: "events", after: link.position });
    }
    if (link.state !== this.linkTold) this.tellLink();
    else this.linkTimer ??= setTimeout(() => this.tellLink(), Math.max(0, this.linkToldMs + LINK_MS - performance.now()));
  }

  private tellLink(): void {
    clearTimeout(this.linkTimer);
    this.linkTimer = undefined;
    this.linkTold = this.connection.link.state;
    this.linkToldMs = performance.now();
    for (const port of this.tabs.keys()) port.post(this.freshness);
  }
}

/** The address of the socket on the page's own origin. */
export function liveAddress(location: Pick<Location, "protocol" | "host">): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/api/v1/live/ws`;
}
