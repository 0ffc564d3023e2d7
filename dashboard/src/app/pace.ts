/** How long what follows the DMS waits before it asks again, so that many followers leave it time for what a person asks. */
import { ApiError } from "../api/client";

/** An answer that took long is followed by a pause that is longer by this. */
const STRETCH = 3;
/** Between two answers while events keep coming: six followers ask less often than a token may. */
const APART_MS = 500;
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 60_000;

export class Pace {
  private tookMs = 0;
  private lastMs = -APART_MS;
  private failures = 0;
  /** Told by the DMS; of `performance.now()`. */
  private notBeforeMs = 0;

  /** settleMs: the shortest pause; events in between lead to one answer. */
  constructor(private readonly settleMs: number) {}

  answered(tookMs: number): void {
    [this.tookMs, this.lastMs, this.failures] = [tookMs, performance.now(), 0];
  }

  /** Returns whether it may go well the next time. */
  failed(error: unknown): boolean {
    this.failures++;
    if (!(error instanceof ApiError)) return false;
    this.notBeforeMs = performance.now() + error.retryAfterSeconds * 1000;
    const { status } = error.problem;
    return status === 0 || status === 408 || status === 429 || status >= 500;
  }

  /** The DMS is there again: there is no need to wait longer for that. */
  returned(): void {
    this.failures = 0;
  }

  get pauseMs(): number {
    const now = performance.now();
    const retryMs = this.failures && Math.min(FIRST_RETRY_MS * 2 ** (this.failures - 1), LONGEST_RETRY_MS);
    return Math.max(this.settleMs, STRETCH * this.tookMs, this.lastMs + APART_MS - now, this.notBeforeMs - now, retryMs);
  }
}
