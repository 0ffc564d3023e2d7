import type { FromServer, Link, ToServer, Wanted } from "./protocol";

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 10_000;
/** The server says something at least each 5 s. */
const SILENT_MS = 12_000;
/** Of so many beats the one that was the fastest on its way tells the DMS's clock. */
const CLOCK_BEATS = 6;
/** A clock that is off by less is taken for right: each change has all times of a page drawn anew. */
const CLOCK_STEP_MS = 500;

export type SocketLike = Pick<WebSocket, "send" | "close" | "readyState"> & {
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
};

interface Subscription {
  wanted: Wanted;
  /** All that it wants up to the head was sent on this socket, so a heartbeat's position is its own as well. */
  caughtUp: boolean;
}

/**
 * One websocket that comes back by itself. Each subscription goes on after the last event or line that came, so nothing
 * is missed and nothing comes twice.
 */
export class LiveConnection {
  private socket: SocketLike | null = null;
  private readonly subscriptions = new Map<string, Subscription>();
  private retryMs = FIRST_RETRY_MS;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private silenceTimer: ReturnType<typeof setTimeout> | undefined;
  link: Link = { state: "connecting", position: 0, lastHeard: 0, aheadMs: 0, reason: "" };
  private aheadOfBeats: number[] = [];

  constructor(
    private readonly open: () => SocketLike,
    private readonly told: (message: FromServer) => void,
    private readonly linkChanged: (link: Link) => void,
  ) {
    this.connect();
  }

  subscribe(id: string, wanted: Wanted): void {
    this.subscriptions.set(id, { wanted: { ...wanted }, caughtUp: false });
    this.say({ id, ...wanted });
  }

  unsubscribe(id: string): void {
    if (this.subscriptions.delete(id)) this.say({ id, unsubscribe: true });
  }

  /** All events that the subscription wants, up to this position, were told. */
  passed(id: string): number {
    const wanted = this.subscriptions.get(id)?.wanted;
    return wanted?.subscribe === "events" ? wanted.after : 0;
  }

  /** After a sleep, or when the browser says that it is online again: a line that may be dead is not waited for. */
  check(): void {
    if (!this.socket) {
      this.retryMs = FIRST_RETRY_MS;
      this.connect();
    } else if (this.link.state === "live" && Date.now() - this.link.lastHeard > SILENT_MS) this.drop("the DMS says nothing");
  }

  private connect(): void {
    clearTimeout(this.retryTimer);
    const socket = this.open();
    this.socket = socket;
    this.aheadOfBeats = [];
    socket.onopen = () => {
      if (socket !== this.socket) return;
      for (const [id, { wanted }] of this.subscriptions) this.say({ id, ...wanted });
      this.heard({});
    };
    socket.onmessage = (event) => {
      if (socket === this.socket) this.receive(String(event.data));
    };
    socket.onclose = (event) => this.lost(socket, event.reason || "the DMS can't be reached");
    this.watchSilence();
  }

  private receive(text: string): void {
    let message: FromServer;
    try {
      message = JSON.parse(text) as FromServer;
    } catch {
      return this.drop("the DMS said something that is not understood");
    }
    this.retryMs = FIRST_RETRY_MS;
    if (message.id === undefined) this.beat(message.position, message.time);
    else if (this.subscriptions.has(message.id)) this.pass(message.id, message);
    else this.heard({}); // of a subscription that ended meanwhile
  }

  /** The first one says that the server is there: a socket that only opened may be a proxy's. */
  private beat(position = this.link.position, time = ""): void {
    for (const { wanted, caughtUp } of this.subscriptions.values())
      if (caughtUp && wanted.subscribe === "events") wanted.after = Math.max(wanted.after, position);
    this.heard({ state: "live", reason: "", position, aheadMs: this.aheadBy(Date.parse(time)) });
  }

  /** What a beat is late by makes the DMS's clock look that much behind. */
  private aheadBy(timeMs: number): number {
    if (Number.isNaN(timeMs)) return this.link.aheadMs;
    this.aheadOfBeats = [...this.aheadOfBeats, timeMs - Date.now()].slice(-CLOCK_BEATS);
    const aheadMs = Math.max(...this.aheadOfBeats);
    return Math.abs(aheadMs - this.link.aheadMs) < CLOCK_STEP_MS ? this.link.aheadMs : aheadMs;
  }

  private pass(id: string, message: FromServer): void {
    const subscription = this.subscriptions.get(id);
    if (!subscription) return;
    const { wanted } = subscription;
    const position = message.event?.position ?? message.caught_up ?? 0;
    if (wanted.subscribe === "events") wanted.after = Math.max(wanted.after, position);
    if (message.caught_up !== undefined) subscription.caughtUp = true;
    if (message.lines?.length && wanted.subscribe === "output") wanted.after = message.lines.at(-1)?.seq ?? wanted.after;
    if (message.error || message.sealed) this.subscriptions.delete(id); // the server has ended it
    this.heard({ state: "live", reason: "", position: Math.max(this.link.position, position) });
    this.told(message);
  }

  private drop(reason: string): void {
    const socket = this.socket;
    if (!socket) return;
    this.lost(socket, reason);
    socket.close();
  }

  private lost(socket: SocketLike, reason: string): void {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.silenceTimer);
    for (const subscription of this.subscriptions.values()) subscription.caughtUp = false;
    this.link = { ...this.link, state: this.link.lastHeard ? "reconnecting" : "connecting", reason };
    this.linkChanged(this.link);
    this.retryTimer = setTimeout(() => this.connect(), this.retryMs * (0.75 + Math.random() / 2));
    this.retryMs = Math.min(this.retryMs * 2, LONGEST_RETRY_MS);
  }

  private heard(change: Partial<Link>): void {
    this.link = { ...this.link, ...change, lastHeard: Date.now() };
    this.linkChanged(this.link);
    this.watchSilence();
  }

  /** A connection that says nothing is dead, whatever the operating system thinks of it. */
  private watchSilence(): void {
    clearTimeout(this.silenceTimer);
    this.silenceTimer = setTimeout(() => this.drop("the DMS says nothing"), SILENT_MS);
  }

  private say(message: ToServer): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
