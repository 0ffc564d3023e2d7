/** A search in all of a job's output, by the server, which looks at a part for each question. The newest wish alone counts. */
import { batch, computed, signal } from "@preact/signals";
import { failure } from "../../api/client";
import { whole } from "../../app/format";
import type { SearchPage, SearchWanted, StreamFilter } from "./output_api";

/** Numbers of lines that are kept to step through; more are only counted. */
export const MOST_HITS = 5_000;
const HITS_A_PAGE = 500;
const TYPED_MS = 250;

export class OutputSearch {
  readonly wanted = signal("");
  readonly matchCase = signal(false);
  readonly error = signal("");
  readonly searching = signal(false);
  /** Lines that have it, ascending: the first MOST_HITS. */
  readonly hits = signal<readonly number[]>([]);
  readonly count = signal(0);
  /** Which of the hits one is at; -1: none yet. */
  readonly at = signal(-1);
  readonly line = computed(() => this.hits.value[this.at.value] ?? 0);
  readonly words = computed(() => this.told());
  private asked = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private begun = "";

  constructor(
    private readonly ask: (wanted: SearchWanted, signal: AbortSignal) => Promise<SearchPage>,
    private readonly stream: () => StreamFilter,
    private readonly go: (seq: number) => void,
  ) {}

  type(text: string): void {
    this.wanted.value = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.run(), TYPED_MS);
  }

  close(): void {
    clearTimeout(this.timer);
    this.asked.abort();
  }

  /** To the next hit, or the one before; from the last to the first. */
  async step(by: 1 | -1): Promise<void> {
    clearTimeout(this.timer);
    if (this.begun !== this.question()) await this.run();
    const hits = this.hits.peek();
    if (hits.length === 0) return;
    const from = this.at.peek() < 0 && by < 0 ? 0 : this.at.peek();
    this.at.value = (from + by + hits.length) % hits.length;
    this.go(hits[this.at.peek()] ?? 0);
  }

  /** Resolves with the first part's answer; the rest is looked at meanwhile. */
  async run(): Promise<void> {
    this.asked.abort();
    const { signal: ended } = (this.asked = new AbortController());
    this.begun = this.question();
    batch(() => {
      [this.hits.value, this.count.value, this.at.value, this.error.value] = [[], 0, -1, ""];
      this.searching.value = this.wanted.peek() !== "";
    });
    if (!this.searching.peek()) return;
    const next = await this.part(0, ended);
    if (next !== null) void this.goOn(next, ended);
  }

  private question(): string {
    return JSON.stringify([this.wanted.peek(), this.matchCase.peek(), this.stream()]);
  }

  private async goOn(from: number, ended: AbortSignal): Promise<void> {
    for (let next: number | null = from; next !== null; ) next = await this.part(next, ended);
  }

  private async part(after: number, ended: AbortSignal): Promise<number | null> {
    const limit = this.hits.peek().length < MOST_HITS ? HITS_A_PAGE : 0;
    try {
      const page = await this.ask({ q: this.wanted.peek(), stream: this.stream(), match_case: this.matchCase.peek(), after, limit }, ended);
      if (ended.aborted) return null;
      batch(() => {
        this.hits.value = [...this.hits.peek(), ...page.lines.map(({ seq }) => seq)].slice(0, MOST_HITS);
        this.count.value += page.count;
        this.searching.value = page.next !== null;
      });
      return page.next;
    } catch (error) {
      if (!ended.aborted) [this.error.value, this.searching.value] = [failure(error), false];
      return null;
    }
  }

  private told(): string {
    if (this.wanted.value === "") return "";
    if (this.error.value) return this.error.value;
    const [count, at] = [this.count.value, this.at.value];
    const all = `${whole(count)}${this.searching.value ? " so far" : ""}`;
    if (at >= 0) return `${whole(at + 1)} of ${all}`;
    if (count === 0) return this.searching.value ? "searching…" : "no line has it";
    return `${all} ${count === 1 ? "line has" : "lines have"} it`;
  }
}
