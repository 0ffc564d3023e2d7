import type { Reply } from "../api/reply";
import type { FromPage, FromServer, Link, News, ToPage, Wanted } from "./protocol";

/** The way to what holds the socket. */
export interface Channel {
  post(message: FromPage): void;
  close(): void;
}

/** broken: nothing more will come by it. */
export type OpenChannel = (receive: (message: ToPage) => void, broken: () => void) => Channel;

type Listener = (message: FromServer) => void;

interface Subscription {
  wanted: Wanted;
  listener: Listener;
  caughtUp: boolean;
}

/** So many ticks of the page without a word, and what holds the socket is taken for dead. */
const SILENT_TICKS = 4;
const ANSWER_MS = 5_000;

/**
 * A page's subscriptions. It knows itself how far each has come, so it can go on by another channel at any time, each
 * event and line once: after the browser kept the page asleep, when a worker died, when it was forgotten there.
 */
export class Subscriber {
  private channel: Channel | null = null;
  private readonly subscriptions = new Map<string, Subscription>();
  private readonly asking = new Map<string, (reply: Reply | null) => void>();
  private nextId = 0;
  private silentTicks = 0;

  constructor(private readonly open: OpenChannel, private readonly linkChanged: (link: Link) => void) {}

  join(): void {
    if (!this.channel) this.rejoin();
  }

  leave(): void {
    this.channel?.post({ goodbye: true });
    this.channel?.close();
    this.channel = null;
    for (const answered of [...this.asking.values()]) answered(null);
  }

  rejoin(): void {
    this.leave();
    this.silentTicks = 0;
    let opened: Channel | null = null;
    let early: ToPage[] | null = [];
    const receive = (all: ToPage) => {
      if (early) return void early.push(all);
      for (const news of all) if (opened !== null && opened === this.channel) this.receive(news);
    };
    opened = this.open(receive, () => opened === this.channel && this.rejoin());
    this.channel = opened;
    for (const [id, subscription] of this.subscriptions) {
      subscription.caughtUp = false;
      opened.post({ id, ...subscription.wanted });
    }
    const waiting: ToPage[] = early;
    early = null;
    for (const all of waiting) receive(all);
  }

  subscribe(wanted: Wanted, listener: Listener): () => void {
    this.join();
    const id = `s${this.nextId++}`;
    this.subscriptions.set(id, { wanted: { ...wanted }, listener, caughtUp: false });
    this.channel?.post({ id, ...wanted });
    return () => {
      if (this.subscriptions.delete(id)) this.channel?.post({ id, unsubscribe: true });
    };
  }

  /** An answer of the API that other pages may need as well. null: none came that way, so the page asks itself. */
  askTogether(url: string, after: number): Promise<Reply | null> {
    this.join();
    const id = `a${this.nextId++}`;
    return new Promise((resolve) => {
      const answered = (reply: Reply | null) => {
        clearTimeout(timer);
        this.asking.delete(id);
        resolve(reply);
      };
      const timer = setTimeout(() => answered(null), ANSWER_MS);
      this.asking.set(id, answered);
      this.channel?.post({ ask: id, url, after });
    });
  }

  /** The page is looked at again, or the browser is online. */
  awake(): void {
    this.channel?.post({ awake: true });
  }

  /** To be called every few seconds. */
  tick(): void {
    if (this.channel && ++this.silentTicks > SILENT_TICKS) this.rejoin();
  }

  private receive(message: News): void {
    this.silentTicks = 0;
    if ("rejoin" in message) return this.rejoin();
    if ("answer" in message) return this.asking.get(message.answer)?.(message.reply);
    if (!("link" in message)) return this.route(message);
    if (message.tick) this.channel?.post({ alive: true });
    for (const { wanted, caughtUp } of this.subscriptions.values())
      if (caughtUp && wanted.subscribe === "events") wanted.after = Math.max(wanted.after, message.passed);
    this.linkChanged(message.link);
  }

  private route(message: FromServer): void {
    const [id, found] = [message.id ?? "", this.subscriptions.get(message.id ?? "")];
    if (!found) return;
    const { wanted, listener } = found;
    if (wanted.subscribe === "events" && message.event) {
      if (message.event.position <= wanted.after) return;
      wanted.after = message.event.position;
    }
    if (wanted.subscribe === "events" && message.caught_up !== undefined) {
      found.caughtUp = true;
      wanted.after = Math.max(wanted.after, message.caught_up);
    }
    if (message.error || message.sealed) this.subscriptions.delete(id);
    if (wanted.subscribe === "output" && message.lines) {
      const lines = message.lines.filter(({ seq }) => seq > wanted.after);
      wanted.after = lines.at(-1)?.seq ?? wanted.after;
      if (lines.length > 0 || message.sealed) listener({ ...message, lines });
      return;
    }
    listener(message);
  }
}

