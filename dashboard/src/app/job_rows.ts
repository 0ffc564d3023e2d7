/** A list of jobs of any length: pages of it as they come into sight, each row following the events. */
import { signal, type Signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { failure } from "../api/client";
import type { Deployment, JobRow } from "../api/answers";
import { jobOf, patched } from "../domain/job_patch";
import { SparseRows } from "../domain/sparse_rows";
import { onEvents, onReturn } from "../live/live";
import type { LogEvent } from "../live/protocol";
import { getTogether } from "./get_together";
import { Pace } from "./pace";
import { useShown } from "./shown";

export type JobQuery = Record<string, string>;

/** Events that change a list, and what a row is after one; a new answer is asked for anyway. */
interface Followed<Row> {
  types: string[];
  patched: (row: Row, event: LogEvent) => Row;
}

export const REQUESTED: Followed<JobRow> = { types: ["job"], patched };
export const DEPLOYED: Followed<Deployment> = { types: ["deployment"], patched: (row) => row };

const PAGE_ROWS = 50;
/** Rows before and behind those in sight that are there before one scrolls to them. */
const MARGIN_ROWS = 16;
const SETTLE_MS = 150;
/** Events kept for answers that were made before them. */
const KEPT_EVENTS = 500;

/** Rows that are looked at. The list on the page outlives the answers to a query, and tells only when they change. */
export interface Sight {
  first: number;
  last: number;
}

const atTop = (): Sight => ({ first: 0, last: 40 });

export class JobRows<Row extends { job_id: string } = JobRow> {
  readonly list = new SparseRows<Row>(PAGE_ROWS);
  /** Changes whenever a row or the total does. */
  readonly version = signal(0);
  readonly error = signal("");
  readonly ready = signal(false);
  private readonly asked = new AbortController();
  private readonly recent: LogEvent[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking = false;
  private readonly pace = new Pace(SETTLE_MS);
  /** The newest event that was heard since all was asked for anew. */
  private heard = 0;
  private reloads = 0;
  private stop: (() => void) | null = null;
  private readonly unwatch = onReturn(() => {
    this.pace.returned();
    this.reload();
  });

  /** at: the moment of the past that is shown; empty: now. sight: shared by all queries of one list. */
  constructor(private readonly query: JobQuery, private readonly at: string, private readonly followed: Followed<Row>, private readonly sight = atTop()) {
    void this.fetch();
  }

  close(): void {
    this.asked.abort();
    clearTimeout(this.timer);
    this.stop?.();
    this.unwatch();
  }

  seen(first: number, last: number): void {
    [this.sight.first, this.sight.last] = [first - MARGIN_ROWS, last + MARGIN_ROWS];
    if (this.wanted().length > 0) this.soon(0);
  }

  reload(): void {
    this.expire();
    this.soon(0);
  }

  private expire(): void {
    this.heard = 0;
    this.reloads++;
    this.list.expire();
  }

  private soon(pauseMs: number): void {
    if (this.asking || this.asked.signal.aborted) return;
    if (pauseMs === 0) clearTimeout(this.timer);
    else if (this.timer !== undefined) return;
    this.timer = setTimeout(() => void this.fetch(), pauseMs);
  }

  /** Of a row, whichever place it moves to, so that who stands on it goes with it. */
  keyOf(index: number): string {
    return this.list.get(index)?.job_id ?? `missing${index}`;
  }

  private async fetch(): Promise<void> {
    [this.timer, this.asking] = [undefined, true];
    let again = false;
    try {
      const pages = this.wanted();
      for (const page of pages) if (this.wanted().includes(page)) await this.ask(page);
      this.error.value = "";
    } catch (error) {
      again = this.pace.failed(error);
      this.error.value = this.asked.signal.aborted ? "" : failure(error);
    } finally {
      this.asking = false;
    }
    const left = this.wanted();
    if (again) this.soon(this.pace.pauseMs);
    else if (left.length > 0 && !this.error.peek()) this.soon(left.some((page) => !this.list.get(page * PAGE_ROWS)) ? 0 : this.pace.pauseMs);
  }

  /** Pages to ask for. Rows behind the end are none, whatever was in sight before the list grew shorter. */
  private wanted(): number[] {
    const rows = this.ready.peek() ? Math.max(1, this.list.total) : PAGE_ROWS;
    const within = (row: number) => Math.min(Math.max(0, row), rows);
    return this.list.wanted(Math.min(within(this.sight.first), rows - 1), within(this.sight.last));
  }

  private async ask(page: number): Promise<void> {
    const [began, reloads] = [performance.now(), this.reloads];
    const query = { ...this.query, offset: page * PAGE_ROWS, limit: PAGE_ROWS, ...(this.at && { as_of: this.at }) };
    const { body, position, total } = await getTogether<{ items: Row[] }>("/jobs", query, this.heard, this.asked.signal);
    if (this.asked.signal.aborted) return; // closed in the moment of the answer: nothing may be followed any more
    this.pace.answered(performance.now() - began);
    const missed = this.recent.filter((event) => event.position > position);
    const newer = new Set(missed.map(jobOf));
    const rows = body.items.map((row) => (newer.has(row.job_id) ? missed.reduce(this.followed.patched, row) : row));
    this.list.put(page, rows, total);
    // Events may have brought rows that this answer has not; who asked for all anew meanwhile gets all anew.
    if (missed.length > 0 || reloads !== this.reloads) this.list.expire();
    this.ready.value = true;
    this.version.value++;
    if (!this.stop && !this.at) this.listen(position);
  }

  private listen(after: number): void {
    const failed = () => {
      this.stop = null;
      this.recent.length = 0; // no part of a log that was restored; else the next stream brings them again
      this.expire();
      this.soon(this.pace.pauseMs);
    };
    this.stop = onEvents({ after, types: this.followed.types, failed }, (event) => this.take(event));
  }

  private take(event: LogEvent): void {
    this.heard = event.position;
    this.recent.push(event);
    if (this.recent.length > KEPT_EVENTS) this.recent.splice(0, KEPT_EVENTS / 2);
    this.list.change(jobOf(event), (row) => this.followed.patched(row, event));
    this.list.expire();
    this.version.value++;
    this.soon(this.pace.pauseMs);
  }
}

export function useJobRows<Row extends { job_id: string }>(query: JobQuery, at: string, followed: Followed<Row>): Signal<JobRows<Row> | null> {
  const sight = useRef(atTop());
  return useShown(() => new JobRows(query, at, followed, sight.current), JSON.stringify([query, at]));
}
