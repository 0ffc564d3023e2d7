import type { News, ToPage } from "./protocol";

/** The shortest time between two messages to a page. The first news after a pause is told at once. */
const PAUSE_MS = 100;

export interface Port {
  post(message: ToPage): void;
}

/**
 * Pages that are due at once are told by one task of the worker. Each page that hears wakes up and wants a core, so with a
 * task for each the worker would wait its turn between any two of them.
 */
export class Round {
  private readonly due = new Set<Tab>();
  private isComing = false;

  join(tab: Tab): void {
    if (!this.isComing) setTimeout(() => this.tell());
    this.isComing = true;
    this.due.add(tab);
  }

  leave(tab: Tab): void {
    this.due.delete(tab);
  }

  private tell(): void {
    const all = [...this.due];
    this.due.clear();
    this.isComing = false;
    for (const tab of all) tab.post();
  }
}

/** An open page, as the hub knows it. All that is new for it goes as one message: each message costs the page a frame. */
export class Tab {
  silentTicks = 0;
  private untold: News[] = [];
  private isLinkNew = false;
  private isUrgent = false;
  private freeMs = Number.NEGATIVE_INFINITY;
  private dueMs = Number.POSITIVE_INFINITY;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly port: Port, readonly number: number, private readonly round: Round, private readonly link: () => News) {}

  tell(news: News): void {
    this.untold.push(news);
    this.hurry();
  }

  /** What can wait, and delays nothing that comes after it. */
  tellLater(news: News, waitMs: number): void {
    this.untold.push(news);
    this.postBy(performance.now() + waitMs);
  }

  /** How fresh the line is by the time that the page is told. */
  tellLink(): void {
    this.isLinkNew = true;
    this.hurry();
  }

  tellLinkLater(waitMs: number): void {
    this.isLinkNew = true;
    this.postBy(performance.now() + waitMs);
  }

  close(): void {
    clearTimeout(this.timer);
    this.round.leave(this);
  }

  private hurry(): void {
    this.isUrgent = true;
    this.postBy(Math.max(performance.now(), this.freeMs));
  }

  private postBy(dueMs: number): void {
    if (dueMs >= this.dueMs) return;
    clearTimeout(this.timer);
    this.dueMs = dueMs;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) this.timer = setTimeout(() => this.post(), waitMs);
    else this.round.join(this);
  }

  post(): void {
    const news = this.isLinkNew ? [...this.untold, this.link()] : this.untold;
    if (this.isUrgent) this.freeMs = performance.now() + PAUSE_MS;
    [this.untold, this.isLinkNew, this.isUrgent, this.dueMs] = [[], false, false, Number.POSITIVE_INFINITY];
    this.port.post(news);
  }
}
