import { LiveConnection, type SocketLike } from "./connection";
import { fits, type EventsWanted, type FromPage, type FromServer, type Link, type LogEvent, type ToPage, type Wanted } from "./protocol";

/** Events kept for pages that join a moment after their snapshot. */
const KEPT_EVENTS = 2_000;
const SHARED = "shared";

export interface Port {
  post(message: ToPage): void;
}

interface Reader {
  port: Port;
  /** The page's own name of its subscription. */
  id: string;
  wanted: Wanted;
  /** As the server knows it; none once the shared stream feeds it. */
  ownId: string | null;
}

/**
 * Shares one websocket among all open pages of a browser. One stream of all events feeds every page; a page whose position
 * is older than what is kept here catches up by a stream of its own first.
 */
export class Hub {
  private readonly connection: LiveConnection;
  private readonly readers = new Map<string, Reader>();
  private readonly ports = new Map<Port, number>();
  private readonly recent: LogEvent[] = [];
  /** All events after this position are in `recent`, or were and made room; null: the shared stream has not begun. */
  private recentAfter: number | null = null;
  private nextPort = 0;

  constructor(open: () => SocketLike) {
    this.connection = new LiveConnection(open, (message) => this.route(message), (link) => this.linkChanged(link));
  }

  join(port: Port): void {
    this.ports.set(port, this.nextPort++);
    port.post({ link: this.connection.link });
  }

  leave(port: Port): void {
    for (const [key, reader] of this.readers) if (reader.port === port) this.end(key);
    this.ports.delete(port);
  }

  retryNow(): void {
    this.connection.retryNow();
  }

  take(port: Port, message: FromPage): void {
    if ("goodbye" in message) return this.leave(port);
    const number = this.ports.get(port);
    if (number === undefined) return;
    const key = `${number}.${message.id}`;
    this.end(key);
    if ("unsubscribe" in message) return;
    const { id, ...wanted } = message;
    this.begin(key, { port, id, wanted, ownId: null });
  }

  private begin(key: string, reader: Reader): void {
    this.readers.set(key, reader);
    if (reader.wanted.subscribe === "events" && this.replay(reader, reader.wanted)) return;
    reader.ownId = key;
    this.connection.subscribe(key, reader.wanted);
  }

  /** False when what the page needs is not kept here. */
  private replay(reader: Reader, wanted: EventsWanted): boolean {
    if (this.recentAfter === null || wanted.after < this.recentAfter) return false;
    for (const event of this.recent) if (event.position > wanted.after && fits(event, wanted)) reader.port.post({ id: reader.id, event });
    reader.port.post({ id: reader.id, caught_up: this.connection.link.position });
    return true;
  }

  private end(key: string): void {
    const reader = this.readers.get(key);
    this.readers.delete(key);
    if (reader?.ownId) this.connection.unsubscribe(reader.ownId);
  }

  private route(message: FromServer): void {
    if (message.id === SHARED) return this.share(message);
    const reader = this.readers.get(message.id ?? "");
    if (!reader) return;
    reader.port.post({ ...message, id: reader.id });
    if (reader.wanted.subscribe !== "events") return;
    if (message.event) reader.wanted.after = message.event.position;
    if (message.caught_up !== undefined) this.toShared(reader, reader.wanted, message.caught_up);
  }

  /** A reader that has caught up goes on with the stream of all. */
  private toShared(reader: Reader, wanted: EventsWanted, position: number): void {
    wanted.after = Math.max(wanted.after, position);
    if (this.recentAfter === null || wanted.after < this.recentAfter) return;
    if (reader.ownId) this.connection.unsubscribe(reader.ownId);
    reader.ownId = null;
    this.replay(reader, wanted);
  }

  private share(message: FromServer): void {
    const { event } = message;
    if (!event) return;
    this.recent.push(event);
    if (this.recent.length > KEPT_EVENTS) this.recentAfter = this.recent.shift()?.position ?? this.recentAfter;
    for (const reader of this.readers.values())
      if (!reader.ownId && reader.wanted.subscribe === "events" && event.position > reader.wanted.after && fits(event, reader.wanted))
        reader.port.post({ id: reader.id, event });
  }

  private linkChanged(link: Link): void {
    if (this.recentAfter === null && link.state === "live" && link.position > 0) {
      this.recentAfter = link.position;
      this.connection.subscribe(SHARED, { subscribe: "events", after: link.position });
    }
    for (const port of this.ports.keys()) port.post({ link });
  }
}

/** The address of the socket on the page's own origin. */
export function liveAddress(location: Pick<Location, "protocol" | "host">): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/api/v1/live/ws`;
}
