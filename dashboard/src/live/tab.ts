import type { News, ToPage } from "./protocol";

/** The shortest time between two messages to a page. The first news after a pause is told at once. */
const PAUSE_MS = 100;

export interface Port {
  post(message: ToPage): void;
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

  constructor(private readonly port: Port, readonly number: number, private readonly link: () => News) {}

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
  }

  private hurry(): void {
    this.isUrgent = true;
    this.postBy(Math.max(performance.now(), this.freeMs));
  }

  private postBy(dueMs: number): void {
    if (dueMs >= this.dueMs) return;
    clearTimeout(this.timer);
    this.dueMs = dueMs;
    this.timer = setTimeout(() => this.post(), dueMs - performance.now());
  }

  private post(): void {
    const news = this.isLinkNew ? [...this.untold, this.link()] : this.untold;
    if (this.isUrgent) this.freeMs = performance.now() + PAUSE_MS;
    [this.untold, this.isLinkNew, this.isUrgent, this.dueMs] = [[], false, false, Number.POSITIVE_INFINITY];
    this.port.post(news);
  }
}
