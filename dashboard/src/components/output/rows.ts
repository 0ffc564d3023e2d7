/** Which rows the output view has, and which of them are in memory: no more than MOST_LINES. Pure. */
import type { OutputLine } from "../../live/protocol";
import type { Gap, OutputPage, PageWanted, StreamFilter } from "./output_api";

export const MOST_LINES = 2_000;
const PAGE_LINES = 400;
/** Lines this near to what is in sight are fetched before they are. */
const AHEAD_ROWS = 80;

export type Row =
  | { kind: "line"; seq: number; line: OutputLine | undefined }
  | { kind: "gap"; gap: Gap };

/** line: undefined while it is being fetched. */
export interface Rows {
  readonly count: number;
  at(index: number): Row;
  /** Of that line, or of the one that stands where it would. */
  indexOf(seq: number): number;
  /** What to fetch so that the rows can be shown; null: nothing. */
  needs(first: number, last: number): PageWanted | null;
  /** Takes what was fetched. Returns how many rows were added before the first one. */
  take(wanted: PageWanted, page: OutputPage): number;
  /** Takes new lines at the end. */
  append(lines: readonly OutputLine[], total: number): void;
  /** Whether the line, or the gap that it is in, can be shown at once. */
  has(seq: number): boolean;
  /** Whether nothing that was known when they were fetched lies behind the last row. */
  readonly reachesEnd: boolean;
  /** Whether each line has its place, wherever one is. */
  readonly isNumbered: boolean;
  /** Lines in memory. */
  readonly held: number;
}

/** All lines, each at its number; those that are not here are one row for each gap. */
export class NumberedRows implements Rows {
  private lines = new Map<number, OutputLine>();
  private gaps: Gap[] = [];
  readonly isNumbered = true;
  readonly reachesEnd = true;

  constructor(private total: number) {}

  has(seq: number): boolean {
    return this.lines.has(seq) || this.gaps.some(({ first, last }) => first <= seq && seq <= last);
  }

  get held(): number {
    return this.lines.size;
  }

  get count(): number {
    return this.total - this.gaps.reduce((sum, gap) => sum + gap.last - gap.first, 0);
  }

  at(index: number): Row {
    let skipped = 0;
    for (const gap of this.gaps) {
      const row = gap.first - 1 - skipped;
      if (index === row) return { kind: "gap", gap };
      if (index < row) break;
      skipped += gap.last - gap.first;
    }
    const seq = index + 1 + skipped;
    return { kind: "line", seq, line: this.lines.get(seq) };
  }

  indexOf(seq: number): number {
    let index = Math.min(Math.max(1, seq), Math.max(1, this.total)) - 1;
    for (const { first, last } of [...this.gaps].reverse()) if (seq >= first) index -= Math.min(seq, last) - first;
    return Math.min(index, Math.max(0, this.count - 1));
  }

  needs(first: number, last: number): PageWanted | null {
    const near = range(Math.max(0, first - AHEAD_ROWS), Math.min(this.count, last + AHEAD_ROWS)).map((index) => this.at(index));
    const missing = near.flatMap((row) => (row.kind === "line" && !row.line ? [row.seq] : []));
    if (missing.length === 0) return null;
    const [from, until] = [Math.min(...missing), Math.max(...missing)];
    // Pages may be short where lines are long: so they begin with what is missing.
    const upwards = this.lines.has(until + 1) || until === this.total;
    return { ...(upwards ? { before: until + 1 } : { after: from - 1 }), limit: PAGE_LINES, stream: "" };
  }

  take(wanted: PageWanted, page: OutputPage): number {
    this.total = Math.max(this.total, wanted.from_end ? page.total_lines : 0);
    for (const gap of page.gaps) this.addGap(gap);
    for (const line of page.lines) this.lines.set(line.seq, line);
    if (!wanted.from_end) this.noticeMissing(wanted, page);
    this.trim(page.lines[Math.floor(page.lines.length / 2)]?.seq ?? this.total);
    return 0;
  }

  append(lines: readonly OutputLine[], total: number): void {
    this.total = Math.max(this.total, total);
    for (const line of lines.slice(-MOST_LINES)) this.lines.set(line.seq, line);
    this.trim(this.total);
  }

  /** A line of the page's range that did not come, though nobody says why, would be asked for for ever. */
  private noticeMissing({ after, before, limit }: PageWanted, page: OutputPage): void {
    const [oldest, newest] = [page.lines[0]?.seq, page.lines.at(-1)?.seq];
    const first = before === undefined ? (after ?? 0) + 1 : page.next === null ? Math.max(1, before - limit) : (oldest ?? before);
    const last = before !== undefined ? before - 1 : page.next === null ? Math.min(first - 1 + limit, this.total) : (newest ?? first - 1);
    let next = first;
    for (const seq of [...page.lines.map((line) => line.seq), last + 1]) {
      if (seq > next && !this.gaps.some((gap) => gap.first <= next && seq - 1 <= gap.last)) this.addGap({ first: next, last: seq - 1, reason: "" });
      next = Math.max(next, seq + 1);
    }
  }

  private addGap(gap: Gap): void {
    const [touching, others] = [[] as Gap[], [] as Gap[]];
    for (const known of this.gaps) (known.first <= gap.last && gap.first <= known.last ? touching : others).push(known);
    const joined = touching.reduce((one, other) => ({ first: Math.min(one.first, other.first), last: Math.max(one.last, other.last), reason: one.reason || other.reason }), gap);
    this.gaps = [...others, joined].sort((one, other) => one.first - other.first);
    this.total = Math.max(this.total, joined.last);
  }

  /** Keeps what is nearest to a line. */
  private trim(centre: number): void {
    if (this.lines.size <= MOST_LINES) return;
    const nearest = [...this.lines.keys()].sort((one, other) => Math.abs(one - centre) - Math.abs(other - centre));
    for (const seq of nearest.slice(MOST_LINES)) this.lines.delete(seq);
  }
}

/** The lines of one stream around a place; their numbers have holes, so there is no telling how many lie outside. */
export class StreamRows implements Rows {
  private lines: OutputLine[] = [];
  /** Where the next pages go on; null: nothing is there. */
  private before: number | null = null;
  private after: number | null = 0;
  readonly isNumbered = false;

  constructor(private readonly stream: StreamFilter) {}

  has(seq: number): boolean {
    return this.lines.some((line) => line.seq === seq);
  }

  get reachesEnd(): boolean {
    return this.after === null;
  }

  get held(): number {
    return this.lines.length;
  }

  get count(): number {
    return this.lines.length;
  }

  at(index: number): Row {
    const line = this.lines[index];
    return { kind: "line", seq: line?.seq ?? 0, line };
  }

  indexOf(seq: number): number {
    const index = this.lines.findIndex((line) => line.seq >= seq);
    return index < 0 ? Math.max(0, this.lines.length - 1) : index;
  }

  needs(first: number, last: number): PageWanted | null {
    const page = { limit: PAGE_LINES, stream: this.stream };
    if (this.before !== null && first < AHEAD_ROWS) return { before: this.before, ...page };
    if (this.after !== null && last > this.lines.length - AHEAD_ROWS) return { after: this.after, ...page };
    return null;
  }

  take(wanted: PageWanted, page: OutputPage): number {
    if (wanted.before !== undefined && wanted.before !== this.before) [this.lines, this.after] = [[], wanted.before - 1];
    if (wanted.before !== undefined) return this.prepend(page);
    if (wanted.from_end) [this.lines, this.before, this.after] = [[], page.next, null];
    else if (wanted.after !== this.after) [this.lines, this.before] = [[], wanted.after ? wanted.after + 1 : null];
    if (!wanted.from_end) this.after = page.next;
    return this.extend(page.lines);
  }

  append(lines: readonly OutputLine[]): void {
    if (this.after === null) this.extend(lines.filter(({ stream }) => stream === this.stream));
  }

  private prepend(page: OutputPage): number {
    this.before = page.next;
    this.lines = [...page.lines, ...this.lines];
    if (this.lines.length > MOST_LINES) {
      this.lines = this.lines.slice(0, MOST_LINES);
      this.after = this.lines.at(-1)?.seq ?? null;
    }
    return page.lines.length;
  }

  /** Returns what `take` does: less than nothing when rows before were let go. */
  private extend(lines: readonly OutputLine[]): number {
    const last = this.lines.at(-1)?.seq ?? 0;
    this.lines.push(...lines.filter(({ seq }) => seq > last));
    const tooMany = Math.max(0, this.lines.length - MOST_LINES);
    if (tooMany > 0) this.lines = this.lines.slice(tooMany);
    if (tooMany > 0) this.before = this.lines[0]?.seq ?? null;
    return -tooMany;
  }
}

export const rowsOf = (stream: StreamFilter, total: number): Rows => (stream === "" ? new NumberedRows(total) : new StreamRows(stream));

const range = (from: number, until: number): number[] => Array.from({ length: Math.max(0, until - from) }, (_, index) => from + index);
