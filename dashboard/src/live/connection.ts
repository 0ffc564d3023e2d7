import type { FromServer, Link, ToServer, Wanted } from "./protocol";

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 10_000;
/** The server says something at least each 5 s. */
const SILENT_MS = 12_000;

export type SocketLike = Pick<WebSocket, "send" | "close" | "readyState"> & {
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
};

/**
 * One websocket that comes back by itself. Each subscription goes on after the last event or line that came, so nothing
 * is missed and nothing comes twice.
 */
export class LiveConnection {
  private socket: SocketLike | null = null;
  private readonly wanted = new Map<string, Wanted>();
  private retryMs = FIRST_RETRY_MS;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private silenceTimer: ReturnType<typeof setTimeout> | undefined;
  link: Link = { state: "connecting", position: 0, lastHeard: 0, reason: "" };

  constructor(
    private readonly open: () => SocketLike,
    private readonly told: (message: FromServer) => void,
    private readonly linkChanged: (link: Link) => void,
  ) {
    this.connect();
  }

  subscribe(id: string, wanted: Wanted): void {
    this.wanted.set(id, { ...wanted });
    this.say({ id, ...wanted });
  }

  unsubscribe(id: string): void {
    if (this.wanted.delete(id)) this.say({ id, unsubscribe: true });
  }

  /** At once, for example when the browser says that it is online again. */
  retryNow(): void {
    if (this.socket) return;
    this.retryMs = FIRST_RETRY_MS;
    this.connect();
  }

  private connect(): void {
    clearTimeout(this.retryTimer);
    const socket = this.open();
    this.socket = socket;
    socket.onopen = () => {
      this.retryMs = FIRST_RETRY_MS;
      this.heard({ state: "live", reason: "" });
      for (const [id, wanted] of this.wanted) this.say({ id, ...wanted });
    };
    socket.onmessage = (event) => this.receive(JSON.parse(String(event.data)) as FromServer);
    socket.onclose = (event) => this.lost(socket, event.reason || "the DMS can't be reached");
    this.watchSilence();
  }

  private receive(message: FromServer): void {
    const wanted = message.id === undefined ? undefined : this.wanted.get(message.id);
    let { position } = this.link;
    if (message.id === undefined) position = message.position ?? position;
    else if (wanted === undefined) return this.heard({}); // of a subscription that ended meanwhile
    if (message.event && wanted?.subscribe === "events") {
      wanted.after = message.event.position;
      position = Math.max(position, message.event.position);
    }
    if (message.caught_up !== undefined && wanted?.subscribe === "events") {
      wanted.after = Math.max(wanted.after, message.caught_up);
      position = Math.max(position, message.caught_up);
    }
    const lastLine = message.lines?.at(-1);
    if (lastLine && wanted?.subscribe === "output") wanted.after = lastLine.seq;
    this.heard({ position });
    if (message.id !== undefined) this.told(message);
  }

  private lost(socket: SocketLike, reason: string): void {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.silenceTimer);
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
    const socket = this.socket;
    this.silenceTimer = setTimeout(() => {
      if (!socket || socket !== this.socket) return;
      socket.close();
      this.lost(socket, "the DMS says nothing");
    }, SILENT_MS);
  }

  private say(message: ToServer): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
