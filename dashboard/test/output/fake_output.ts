/** A job's output as the API would give it. */
import type { GrowingLine, OutputLine } from "../../src/live/protocol";
import type { Gap, OutputPage, OutputSource, PageWanted } from "../../src/components/output/output_api";

type Told = { lines?: OutputLine[]; sealed?: boolean; growing?: GrowingLine[] };

export class FakeOutput implements OutputSource {
  readonly lines: OutputLine[] = [];
  readonly asked: PageWanted[] = [];
  gaps: Gap[] = [];
  sealed = false;
  /** So many of each page are told at most, as where lines are long. */
  mostOfPage = Infinity;
  followers = new Map<(told: Told) => void, number>();
  /** Answers wait for it. */
  held: Promise<void> = Promise.resolve();

  constructor(count: number, private readonly stderrEvery = 10) {
    this.print(count);
  }

  print(count: number): void {
    const fresh = Array.from({ length: count }, () => {
      const seq = this.lines.length + 1;
      const line: OutputLine = { seq, stream: seq % this.stderrEvery === 0 ? "stderr" : "stdout", time: "2026-01-31T12:00:00Z", text: `line ${seq}`, cut: false };
      this.lines.push(line);
      return line;
    });
    for (const tell of this.followers.keys()) tell({ lines: fresh, sealed: false });
  }

  grows(text: string): void {
    for (const tell of this.followers.keys()) tell({ growing: [{ stream: "stdout", text }] });
  }

  seal(): void {
    this.sealed = true;
    for (const tell of this.followers.keys()) tell({ lines: [], sealed: true });
  }

  async page(wanted: PageWanted, signal: AbortSignal): Promise<OutputPage> {
    this.asked.push(wanted);
    await this.held;
    signal.throwIfAborted();
    const here = this.lines.filter(({ seq, stream }) => (wanted.stream === "" || stream === wanted.stream) && !this.gaps.some(({ first, last }) => first <= seq && seq <= last));
    const limit = Math.min(wanted.limit, this.mostOfPage);
    const back = wanted.from_end || wanted.before !== undefined;
    const all = back ? here.filter(({ seq }) => seq < (wanted.before ?? Infinity)) : here.filter(({ seq }) => seq > (wanted.after ?? 0));
    const lines = back ? all.slice(-limit) : all.slice(0, limit);
    const edge = (back ? lines[0]?.seq : lines.at(-1)?.seq) ?? 0;
    const total = this.lines.length;
    return { lines, next: all.length > lines.length ? edge : null, total_lines: total, total_bytes: total * 10, sealed: this.sealed, truncated: false, damage: "", gaps: this.gaps };
  }

  follow(after: number, take: (told: Told) => void): () => void {
    this.followers.set(take, after);
    if (after < this.lines.length) take({ lines: this.lines.slice(after), sealed: this.sealed });
    return () => void this.followers.delete(take);
  }
}
