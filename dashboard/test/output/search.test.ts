import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SearchPage, SearchWanted, StreamFilter } from "../../src/components/output/output_api";
import { MOST_HITS, OutputSearch } from "../../src/components/output/search";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Every tenth line has it; an answer looks at `part` lines. */
class FakeSearch {
  readonly asked: SearchWanted[] = [];
  readonly gone: number[] = [];
  stream: StreamFilter = "";
  search: OutputSearch;

  constructor(private readonly lines: number, private readonly part: number) {
    this.search = new OutputSearch((wanted, signal) => this.answer(wanted, signal), () => this.stream, (seq) => this.gone.push(seq));
  }

  private async answer(wanted: SearchWanted, signal: AbortSignal): Promise<SearchPage> {
    this.asked.push(wanted);
    await new Promise((done) => setTimeout(done, 10));
    signal.throwIfAborted();
    let [seq, found] = [wanted.after, [] as SearchPage["lines"]];
    let count = 0;
    const until = Math.min(this.lines, wanted.after + this.part);
    while (seq < until && (wanted.limit === 0 || found.length < wanted.limit)) if (++seq % 10 === 0 && ++count && wanted.limit) found.push({ seq, at: 0, cut: false, goes_on: false, size_bytes: 1, stream: "stdout", text: "x", time: "" });
    return { lines: found, count, next: seq < this.lines ? seq : null, looked_at: seq - wanted.after, total_lines: this.lines };
  }
}

const settled = () => vi.advanceTimersByTimeAsync(60_000);

describe("the search in the output", () => {
  it("asks once after typing, and goes on by itself until all was looked at", async () => {
    const fake = new FakeSearch(1000, 300);
    for (const text of ["e", "er", "err"]) fake.search.type(text);
    await settled();
    expect(fake.asked.map(({ q, after }) => [q, after])).toEqual([["err", 0], ["err", 300], ["err", 600], ["err", 900]]);
    expect([fake.search.count.value, fake.search.hits.value.length, fake.search.words.value]).toEqual([100, 100, "100 lines have it"]);
  });

  it("steps through the hits, round and round", async () => {
    const fake = new FakeSearch(30, 1000);
    fake.search.wanted.value = "x";
    for (const by of [1, 1, 1, 1, -1, -1] as const) {
      void fake.search.step(by);
      await settled();
    }
    expect(fake.gone).toEqual([10, 20, 30, 10, 30, 20]);
    expect([fake.search.words.value, fake.search.line.value]).toEqual(["2 of 3", 20]);
  });

  it("begins with the last hit when one goes back first", async () => {
    const fake = new FakeSearch(30, 1000);
    fake.search.wanted.value = "x";
    void fake.search.step(-1);
    await settled();
    expect(fake.gone).toEqual([30]);
  });

  it("keeps a bounded number of hits, and counts them all", async () => {
    const fake = new FakeSearch(100_000, 7_000);
    void fake.search.run();
    fake.search.type("x");
    await settled();
    expect([fake.search.hits.value.length, fake.search.count.value]).toEqual([MOST_HITS, 10_000]);
  });

  it("is answered for the newest wish alone", async () => {
    const fake = new FakeSearch(1000, 10);
    fake.search.type("old");
    await vi.advanceTimersByTimeAsync(300);
    fake.search.type("new");
    await settled();
    expect(fake.search.count.value).toBe(100);
    fake.search.type("");
    await settled();
    expect([fake.search.count.value, fake.search.words.value]).toEqual([0, ""]);
  });

  it("asks again when another stream is looked at", async () => {
    const fake = new FakeSearch(30, 1000);
    fake.search.wanted.value = "x";
    void fake.search.step(1);
    await settled();
    fake.stream = "stderr";
    void fake.search.step(1);
    await settled();
    expect(fake.asked.map(({ stream }) => stream)).toEqual(["", "stderr"]);
  });
});
