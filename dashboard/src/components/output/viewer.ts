/**
 * What the output view shows and does, without a document. While it follows, new lines appear as they come. While it is
 * held nothing that is shown moves: new lines are only counted.
 */
import { batch, computed, signal } from "@preact/signals";
import type { GrowingLine, OutputLine } from "../../live/protocol";
import { failure } from "../../api/client";
import type { OutputPage, OutputSource, PageWanted, StreamFilter } from "./output_api";
import { MOST_LINES, rowsOf, type Row, type Rows } from "./rows";

const FIRST_LINES = 400;
/** While scrolling fast, only where it rests is fetched. */
const REST_MS = 50;

export type Shown = Row | { kind: "growing"; growing: GrowingLine } | { kind: "end"; text: string };

/** What is known of all lines. How many bytes of text they have is not: `total_bytes` is of the files that hold them. */
export interface Facts {
  total: number;
  sealed: boolean;
  truncated: boolean;
  damage: string;
}

/** Where the list is to be scrolled to once it is drawn: to the end, to a line, or so that nothing seems to move. */
export type Move = { to: "end" } | { to: "line"; seq: number } | { to: "stay"; added: number };

export class OutputViewer {
  readonly facts = signal<Facts | null>(null);
  readonly error = signal("");
  /** follow: the end is shown. held: by scrolling up. paused: by the button; only the button ends it. */
  readonly mode = signal<"follow" | "held" | "paused">("follow");
  /** New lines that are not shown. */
  readonly unseen = signal(0);
  readonly stream = signal<StreamFilter>("");
  readonly move = signal<Move | null>(null);
  /** Counts each change of what is shown. */
  readonly version = signal(0);
  readonly loading = signal(true);
  readonly following = computed(() => this.mode.value === "follow");
  rows: Rows = rowsOf("", 0);
  /** As they are now, and those that are shown. */
  private newestGrowing: GrowingLine[] = [];
  private growing: GrowingLine[] = [];
  private asked: AbortController | null = null;
  private restTimer: ReturnType<typeof setTimeout> | undefined;
  private sight: readonly [number, number] = [0, 0];
  /** Lines that came while the end was being fetched; null: it isn't. */
  private arrived: OutputLine[] | null = null;
  private unfollow: (() => void) | null = null;
  /** Lines up to this number are rows, or counted as unseen. A page from the middle tells of more before they come. */
  private known = 0;
  private closed = false;

  constructor(private readonly source: OutputSource) {}

  /** line: that it begins at; 0: the end. */
  async open(stream: StreamFilter, line = 0): Promise<void> {
    this.stream.value = stream;
    this.rows = rowsOf(stream, 0);
    await (line > 0 ? this.goTo(line) : this.toEnd());
  }

  close(): void {
    this.closed = true;
    this.asked?.abort();
    clearTimeout(this.restTimer);
    this.unfollow?.();
  }

  get count(): number {
    return this.rows.count + this.growing.length + (this.facts.peek()?.truncated ? 1 : 0);
  }

  /** No row was found yet, but not all lines were looked at. */
  get isLooking(): boolean {
    return this.rows.count === 0 && this.rows.needs(0, 0) !== null;
  }

  at(index: number): Shown {
    const beyond = index - this.rows.count;
    if (beyond < 0) return this.rows.at(index);
    const growing = this.growing[beyond];
    return growing ? { kind: "growing", growing } : { kind: "end", text: "The job printed more than is kept: its output was cut off here." };
  }

  /** What is in sight; fetches what is missing of it. */
  seen(first: number, last: number): void {
    this.sight = [first, last];
    if (this.arrived || !this.rows.needs(first, last)) return;
    clearTimeout(this.restTimer);
    this.restTimer = setTimeout(() => void this.fetchSeen(), REST_MS);
  }

  /** The user scrolled. At the end it goes on by itself, unless it was paused. */
  scrolled(atEnd: boolean): void {
    if (!atEnd) this.hold();
    else if (this.mode.peek() !== "held" || this.loading.peek() || !this.rows.reachesEnd) return;
    else if (this.unseen.peek() > 0 || this.known < (this.facts.peek()?.total ?? 0)) void this.toEnd();
    else this.mode.value = "follow";
  }

  /** Nothing that is shown moves from now on. */
  hold(): void {
    if (this.mode.peek() === "follow") this.mode.value = "held";
  }

  pause(): void {
    this.mode.value = "paused";
  }

  toggle(): void {
    if (this.mode.peek() === "follow") this.pause();
    else void this.toEnd();
  }

  /** Shows the end, and follows. */
  async toEnd(): Promise<void> {
    this.mode.value = "follow";
    this.arrived = [];
    await this.fetch({ from_end: true, limit: FIRST_LINES, stream: this.stream.peek() }, (wanted, page) => {
      const arrived = this.arrived ?? [];
      this.rows = rowsOf(this.stream.peek(), page.total_lines);
      this.rows.take(wanted, page);
      this.known = Math.max(page.total_lines, arrived.at(-1)?.seq ?? 0);
      this.rows.append(arrived, this.known);
      this.unseen.value = 0;
      this.showGrowing();
      this.move.value = { to: "end" };
    });
    this.arrived = null;
  }

  /** Shows a line in the middle. */
  async goTo(seq: number): Promise<void> {
    this.hold();
    if (this.facts.peek() && this.rows.has(seq)) return this.moved({ to: "line", seq });
    const from = this.rows.isNumbered ? { after: Math.max(0, seq - 1 - FIRST_LINES / 2) } : { before: seq + 1 };
    const wanted = { ...from, limit: FIRST_LINES, stream: this.stream.peek() };
    await this.fetch(wanted, (_, page) => {
      if (!this.rows.isNumbered || !this.facts.peek()) this.rows = rowsOf(this.stream.peek(), page.total_lines);
      this.rows.append([], Math.min(seq, page.total_lines));
      this.rows.take(wanted, page);
      this.move.value = { to: "line", seq };
    });
  }

  async setStream(stream: StreamFilter): Promise<void> {
    if (stream === this.stream.peek()) return;
    this.stream.value = stream;
    await this.toEnd();
  }

  private moved(move: Move): void {
    batch(() => {
      this.move.value = move;
      this.version.value++;
    });
  }

  private async fetchSeen(): Promise<void> {
    const wanted = this.rows.needs(...this.sight);
    if (!wanted || this.arrived || this.closed) return;
    const fetched = await this.fetch(wanted, () => undefined);
    if (fetched) this.seen(...this.sight);
  }

  /** The newest wish alone counts. False when it did not come to an answer. */
  private async fetch(wanted: PageWanted, before: (wanted: PageWanted, page: OutputPage) => void): Promise<boolean> {
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    this.loading.value = true;
    try {
      const page = await this.source.page(wanted, asked.signal);
      if (asked.signal.aborted) return false;
      batch(() => this.take(wanted, page, before));
      if (this.isLooking) this.seen(0, 0);
      return true;
    } catch (error) {
      if (!asked.signal.aborted) this.error.value = failure(error);
      return false;
    } finally {
      if (this.asked === asked) this.loading.value = false;
    }
  }

  private take(wanted: PageWanted, page: OutputPage, place: (wanted: PageWanted, page: OutputPage) => void): void {
    const known = this.facts.peek();
    this.error.value = "";
    this.move.value = null;
    const rows = this.rows;
    if (!known) this.known = page.total_lines;
    place(wanted, page);
    if (this.rows === rows && this.move.peek() === null) this.stay(this.rows.take(wanted, page));
    if (!this.rows.isNumbered && wanted.after !== undefined && page.next === null) this.known = Math.max(this.known, page.total_lines);
    this.facts.value = {
      total: Math.max(page.total_lines, known?.total ?? 0),
      sealed: page.sealed || (known?.sealed ?? false),
      truncated: page.truncated,
      damage: page.damage,
    };
    this.version.value++;
    if (!this.unfollow && (!page.sealed || this.known < page.total_lines)) this.follow(this.known);
  }

  private stay(added: number): void {
    this.sight = [Math.max(0, this.sight[0] + added), Math.max(0, this.sight[1] + added)];
    this.move.value = { to: "stay", added };
  }

  private follow(after: number): void {
    this.unfollow = this.source.follow(after, (told) => batch(() => this.told(told)), ({ detail, title }) => {
      this.unfollow = null;
      this.error.value = detail || title;
    });
  }

  private told({ lines = [], sealed, growing }: { lines?: OutputLine[]; sealed?: boolean; growing?: GrowingLine[] }): void {
    const facts = this.facts.peek();
    if (!facts) return;
    const fresh = lines.filter(({ seq }) => seq > this.known);
    this.known = fresh.at(-1)?.seq ?? this.known;
    this.facts.value = { ...facts, total: Math.max(facts.total, this.known), sealed: facts.sealed || (sealed ?? false) };
    const stream = this.stream.peek();
    if (sealed) this.newestGrowing = [];
    else this.newestGrowing = (growing ?? this.newestGrowing).filter((line) => !fresh.some((ended) => ended.stream === line.stream));
    if (this.arrived) this.arrived = [...this.arrived, ...fresh].slice(-MOST_LINES);
    if (this.mode.peek() !== "follow") this.unseen.value += fresh.filter((line) => stream === "" || line.stream === stream).length;
    else if (!this.arrived) this.show(fresh);
  }

  private show(fresh: readonly OutputLine[]): void {
    this.showGrowing();
    this.rows.append(fresh, this.known);
    this.version.value++;
  }

  private showGrowing(): void {
    const stream = this.stream.peek();
    this.growing = this.newestGrowing.filter((line) => line.text !== "" && (stream === "" || line.stream === stream));
  }
}
