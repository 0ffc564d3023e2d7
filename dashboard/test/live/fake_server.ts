/** A DMS's `/live/ws`, as far as pages see it: a log, outputs, sockets that can be cut. */
import type { SocketLike } from "../../src/live/connection";
import { fits, type EventsWanted, type FromServer, type LogEvent, type OutputLine, type ToServer, type Wanted } from "../../src/live/protocol";

export const TOPICS = ["job.submitted", "job.completed", "device.onboarded"];

export class FakeServer {
  log: LogEvent[] = [];
  lines: OutputLine[] = [];
  sockets: FakeSocket[] = [];
  /** Events up to this position are archived. */
  archived = 0;
  isUp = true;
  /** Of its clock, before the page's, and less what its words are late by. */
  aheadMs = 0;

  get head(): number {
    return this.log.length;
  }

  readonly open = (): FakeSocket => {
    const socket = new FakeSocket(this);
    this.sockets.push(socket);
    return socket;
  };

  commit(topic: string, job: string): void {
    this.log.push({ position: this.head + 1, type: `io.nunet.dms.${topic}.v1`, subject: `job-${job}`, correlationid: job } as LogEvent);
  }

  print(): void {
    this.lines.push({ seq: this.lines.length + 1, stream: "stdout", time: "", text: "", cut: false });
  }

  get living(): FakeSocket[] {
    return this.sockets.filter(({ readyState }) => readyState === 1);
  }
}

export class FakeSocket implements SocketLike {
  readyState: number = 0;
  onopen: SocketLike["onopen"] = null;
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  sent: ToServer[] = [];
  private readonly subscriptions = new Map<string, { wanted: Wanted; caughtUp: boolean }>();

  constructor(private readonly server: FakeServer) {}

  /** The handshake ends, well or not. */
  decided(): void {
    if (this.readyState !== 0) return;
    if (!this.server.isUp) return this.cut();
    this.readyState = 1;
    this.onopen?.(new Event("open"));
    this.beat();
  }

  send(data: string): void {
    const message = JSON.parse(data) as ToServer;
    this.sent.push(message);
    if ("unsubscribe" in message) return void this.subscriptions.delete(message.id);
    const { id, ...wanted } = message;
    if (this.subscriptions.has(id)) return this.say({ id, error: { status: 409, title: "Conflict", detail: "twice" } });
    if (wanted.subscribe === "events" && wanted.after > this.server.head) return this.say({ id, error: { status: 400, title: "", detail: "beyond the head" } });
    if (wanted.subscribe === "events" && wanted.after < this.server.archived) return this.say({ id, error: { status: 410, title: "", detail: "archived" } });
    this.subscriptions.set(id, { wanted: { ...wanted }, caughtUp: false });
  }

  close(): void {
    this.readyState = 3;
  }

  /** The line breaks; what is on its way is lost. */
  cut(): void {
    this.readyState = 3;
    this.onclose?.({ reason: "" } as CloseEvent);
  }

  says(message: FromServer): void {
    if (message.error) this.subscriptions.delete(message.id ?? "");
    this.say(message);
  }

  beat(): void {
    // As the DMS does: what has caught up was sent all up to the position before it is told.
    for (const id of this.subscriptions.keys()) if (this.subscriptions.get(id)?.caughtUp) this.serve(id, Infinity);
    this.say({ position: this.server.head, time: new Date(Date.now() + this.server.aheadMs).toISOString() });
  }

  /** One step of one subscription: some events or lines, at most `most`. */
  serve(id: string, most: number): void {
    const found = this.subscriptions.get(id);
    if (!found || this.readyState !== 1) return;
    if (found.wanted.subscribe === "events") this.serveEvents(id, found.wanted, most);
    else if (found.wanted.subscribe === "output") {
      const lines = this.server.lines.slice(found.wanted.after, found.wanted.after + Math.min(most, 50));
      if (lines.length > 0) this.say({ id, lines, sealed: false });
      found.wanted.after += lines.length;
    }
  }

  get names(): string[] {
    return [...this.subscriptions.keys()];
  }

  private serveEvents(id: string, wanted: EventsWanted, most: number): void {
    const part = this.server.log.slice(wanted.after, wanted.after + Math.min(most, this.server.head));
    for (const event of part) {
      wanted.after = event.position;
      if (fits(event, wanted)) this.say({ id, event });
    }
    const found = this.subscriptions.get(id);
    if (wanted.after === this.server.head && found && !found.caughtUp) {
      found.caughtUp = true;
      this.say({ id, caught_up: this.server.head });
    }
  }

  private say(message: FromServer): void {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
  }
}
