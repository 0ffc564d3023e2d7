/** Answers that many pages need at the same moment, as after an event: the DMS is asked once for all of them. */
import { replyOf, type Reply } from "../api/reply";

/** Pages hear of an event one after the other, so an answer is kept for those that ask a little later. */
const KEPT_MS = 300;
const PATIENCE_MS = 30_000;

export class Answers {
  private readonly asked = new Map<string, Promise<Reply | null>>();

  /** One that counts in all events up to a position. null: there is none, and who asks itself sees why. */
  async of(url: string, position: number): Promise<Reply | null> {
    const first = this.asked.get(url) ?? this.ask(url);
    const found = await first;
    if (!found || found.position >= position) return found;
    const second = this.asked.get(url);
    const newer = await (second && second !== first ? second : this.ask(url));
    return newer && newer.position >= position ? newer : null;
  }

  private ask(url: string): Promise<Reply | null> {
    const asked = fetched(url);
    this.asked.set(url, asked);
    const forget = () => void (this.asked.get(url) === asked && this.asked.delete(url));
    void asked.then((reply) => (reply ? setTimeout(forget, KEPT_MS) : forget()));
    return asked;
  }
}

async function fetched(url: string): Promise<Reply | null> {
  try {
    const response = await fetch(url, {
      headers: { accept: "application/json" },
      signal: AbortSignal.timeout(PATIENCE_MS),
      cache: "no-store",
      credentials: "same-origin",
    });
    return response.ok ? replyOf(response, await response.text()) : null;
  } catch {
    return null; // the page's own request tells what is wrong
  }
}
