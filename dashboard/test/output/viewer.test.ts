import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { MOST_LINES } from "../../src/components/output/rows";
import { OutputViewer } from "../../src/components/output/viewer";
import { randomOf } from "../random";
import { FakeOutput } from "./fake_output";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const settled = () => vi.advanceTimersByTimeAsync(200);
async function opened(output: FakeOutput, line = 0, stream: "" | "stdout" | "stderr" = ""): Promise<OutputViewer> {
  const viewer = new OutputViewer(output);
  await viewer.open(stream, line);
  return viewer;
}
const seqs = (viewer: OutputViewer, from: number, until: number) =>
  Array.from({ length: until - from }, (_, index) => viewer.at(from + index)).map((row) => (row.kind === "line" ? (row.line?.seq ?? `?${row.seq}`) : row.kind));
const texts = (viewer: OutputViewer) => Array.from({ length: viewer.count }, (_, index) => viewer.at(index)).flatMap((row) => (row.kind === "line" && row.line ? [row.line.text] : []));

describe("the output view", () => {
  it("begins at the end, with one question, however long the output is", async () => {
    const output = new FakeOutput(100_000);
    const viewer = await opened(output);
    expect(output.asked).toEqual([{ from_end: true, limit: 400, stream: "" }]);
    expect([...output.followers.values()]).toEqual([100_000]);
    expect(viewer.count).toBe(100_000);
    expect(seqs(viewer, 99_998, 100_000)).toEqual([99_999, 100_000]);
    expect(viewer.move.value).toEqual({ to: "end" });
  });

  it("shows new lines while it follows, each once, and keeps no more than it may", async () => {
    const output = new FakeOutput(10);
    const viewer = await opened(output);
    for (let round = 0; round < 50; round++) output.print(100);
    expect(viewer.count).toBe(5010);
    expect(viewer.rows.held).toBeLessThanOrEqual(MOST_LINES);
    expect(seqs(viewer, 5005, 5010)).toEqual([5006, 5007, 5008, 5009, 5010]);
    expect(viewer.unseen.value).toBe(0);
  });

  it("moves and asks nothing while it is paused, and counts what is new", async () => {
    const output = new FakeOutput(1000);
    const viewer = await opened(output);
    viewer.pause();
    const [count, version, asked] = [viewer.count, viewer.version.value, output.asked.length];
    for (let round = 0; round < 20; round++) output.print(13);
    output.grows("50 %");
    viewer.scrolled(true);
    await settled();
    expect([viewer.count, viewer.version.value, output.asked.length, viewer.unseen.value]).toEqual([count, version, asked, 260]);
    await viewer.toEnd();
    expect([viewer.count, viewer.unseen.value, viewer.mode.value]).toEqual([1261, 0, "follow"]);
    expect(viewer.at(1260)).toEqual({ kind: "growing", growing: { stream: "stdout", text: "50 %" } });
    output.seal();
    expect(viewer.count).toBe(1260);
  });

  it("is held by scrolling up, and goes on at the end", async () => {
    const output = new FakeOutput(1000);
    const viewer = await opened(output);
    viewer.scrolled(false);
    output.print(5);
    expect([viewer.mode.value, viewer.unseen.value, viewer.count]).toEqual(["held", 5, 1000]);
    viewer.scrolled(true);
    await settled();
    expect([viewer.mode.value, viewer.unseen.value, viewer.count]).toEqual(["follow", 0, 1005]);
  });

  it.each([true, false])("misses no last line that a page told of before it came (while held: %s)", async (held) => {
    const output = new FakeOutput(1000);
    const viewer = await opened(output);
    const [tell] = [...output.followers.keys()];
    viewer.scrolled(false);
    output.followers.clear(); // the line's next words are late
    output.print(10);
    viewer.seen(200, 240);
    await settled();
    expect([viewer.facts.value?.total, viewer.count]).toEqual([1010, 1000]);
    const late = () => tell?.({ lines: output.lines.slice(1000), sealed: true });
    if (held) late();
    expect(viewer.unseen.value).toBe(held ? 10 : 0);
    viewer.scrolled(true);
    await settled();
    if (!held) late();
    expect([viewer.mode.value, viewer.count, viewer.unseen.value]).toEqual(["follow", 1010, 0]);
    expect(seqs(viewer, 1008, 1010)).toEqual([1009, 1010]);
  });

  it("misses no line that comes while the end is being fetched", async () => {
    for (const stream of ["", "stderr"] as const) {
      const output = new FakeOutput(100);
      const viewer = await opened(output, 0, stream);
      viewer.pause();
      output.print(100);
      let answer = () => {};
      output.held = new Promise((done) => (answer = done));
      const going = viewer.toEnd();
      output.print(30);
      answer();
      await going;
      output.print(30);
      const expected = output.lines.filter((line) => stream === "" || line.stream === stream).map(({ text }) => text);
      expect(texts(viewer)).toEqual(expected);
    }
  });

  it("fetches what is scrolled to, once it rests", async () => {
    const output = new FakeOutput(100_000);
    const viewer = await opened(output);
    viewer.scrolled(false);
    for (let at = 0; at < 40_000; at += 1_000) viewer.seen(at, at + 40);
    expect(seqs(viewer, 39_000, 39_001)).toEqual(["?39001"]);
    await settled();
    expect(output.asked.length).toBe(2);
    expect(seqs(viewer, 39_000, 39_040)).toEqual(Array.from({ length: 40 }, (_, index) => 39_001 + index));
  });

  it("shows the rows in sight wherever one scrolls, with long lines as well, and never asks for ever", async () => {
    for (let seed = 0; seed < 40; seed++) {
      const random = randomOf(seed);
      const output = new FakeOutput(1 + random(9000), 1 + random(30));
      output.mostOfPage = [Infinity, 7, 60][random(3)] ?? Infinity;
      if (random(2)) output.gaps = [{ first: 1 + random(3000), last: 3001 + random(3000), reason: "lost" }].filter(({ last }) => last <= output.lines.length);
      const stream = (["", "stdout", "stderr"] as const)[random(3)] ?? "";
      const viewer = await opened(output, 0, stream);
      viewer.scrolled(false);
      for (let step = 0; step < 8; step++) {
        const first = random(Math.max(1, viewer.count - 30));
        const last = Math.min(viewer.count, first + 30);
        viewer.seen(first, last);
        await vi.advanceTimersByTimeAsync(5000);
        const until = Math.min(viewer.count, last);
        for (const row of seqs(viewer, Math.min(first, until), until)) expect(typeof row === "number" || row === "gap", `seed ${seed} row ${row}`).toBe(true);
        expect(viewer.rows.held).toBeLessThanOrEqual(MOST_LINES);
      }
      expect(output.asked.length).toBeLessThan(400);
    }
  });

  it("keeps the rows of one stream in order, each once, scrolled to and fro", async () => {
    const output = new FakeOutput(60_000, 3);
    const viewer = await opened(output, 0, "stderr");
    viewer.scrolled(false);
    for (let step = 0; step < 30; step++) {
      viewer.seen(step % 7 === 6 ? viewer.count - 30 : 0, step % 7 === 6 ? viewer.count : 30);
      await settled();
      const shown = seqs(viewer, 0, viewer.count) as number[];
      expect(shown).toEqual(shown.map((_, index) => (shown[0] ?? 0) + 3 * index));
    }
  });

  it("tells how many rows came before, so that nothing seems to move", async () => {
    const output = new FakeOutput(60_000, 2);
    const viewer = await opened(output, 0, "stderr");
    viewer.scrolled(false);
    const top = seqs(viewer, 10, 11)[0];
    viewer.seen(10, 40);
    await settled();
    const move = viewer.move.value;
    expect(move?.to).toBe("stay");
    expect(seqs(viewer, 10 + (move?.to === "stay" ? move.added : 0), 11 + (move?.to === "stay" ? move.added : 0))).toEqual([top]);
  });

  it("shows the line of a link, and holds", async () => {
    const output = new FakeOutput(100_000);
    const viewer = await opened(output, 5000);
    expect(viewer.move.value).toEqual({ to: "line", seq: 5000 });
    expect(seqs(viewer, viewer.rows.indexOf(5000), viewer.rows.indexOf(5000) + 1)).toEqual([5000]);
    expect(viewer.mode.value).toBe("held");
    output.print(3);
    await viewer.goTo(100_003);
    expect(seqs(viewer, 100_002, 100_003)).toEqual([100_003]);
    await viewer.goTo(2_000_000);
    expect(viewer.error.value).toBe("");
  });

  it("finds the lines of a stream wherever a link leads", async () => {
    for (const line of [1, 50, 1500, 3000]) {
      const output = new FakeOutput(3000, 1000);
      const viewer = await opened(output, line, "stderr");
      viewer.seen(0, viewer.count);
      await settled();
      viewer.seen(0, viewer.count);
      await settled();
      expect(seqs(viewer, 0, viewer.count), `line ${line}`).toEqual([1000, 2000, 3000]);
    }
  });

  it("says which lines are not here, and why", async () => {
    const output = new FakeOutput(2000);
    output.gaps = [{ first: 501, last: 900, reason: "damaged" }, { first: 1999, last: 2000, reason: "lost" }];
    const viewer = await opened(output);
    expect(viewer.count).toBe(2000 - 399 - 1);
    expect(viewer.at(500)).toEqual({ kind: "gap", gap: output.gaps[0] });
    expect(viewer.at(1599)).toEqual({ kind: "gap", gap: output.gaps[1] });
    expect([viewer.rows.indexOf(500), viewer.rows.indexOf(700), viewer.rows.indexOf(901), viewer.rows.indexOf(1999)]).toEqual([499, 500, 501, 1599]);
    expect(seqs(viewer, 1598, 1599)).toEqual([1998]);
  });

  it("takes lines that nobody has for a gap", async () => {
    const output = new FakeOutput(3000);
    output.lines.splice(1000, 500, ...[]);
    output.lines.push(...[]);
    const viewer = await opened(output, 900);
    viewer.seen(880, 1020);
    await settled();
    const kinds = Array.from({ length: 140 }, (_, index) => viewer.at(880 + index).kind);
    expect(kinds).toContain("gap");
    expect(output.asked.length).toBeLessThan(10);
  });

  it("rewrites a progress bar in its one row", async () => {
    const output = new FakeOutput(3, 100);
    const viewer = await opened(output);
    for (let part = 0; part <= 100; part++) output.grows(`${part} %`);
    expect(viewer.count).toBe(4);
    expect(viewer.at(3)).toEqual({ kind: "growing", growing: { stream: "stdout", text: "100 %" } });
    output.print(1);
    expect([viewer.count, viewer.at(3).kind]).toEqual([4, "line"]);
  });

  it("doubles nothing when lines come again", async () => {
    const output = new FakeOutput(10);
    const viewer = await opened(output);
    for (const tell of output.followers.keys()) tell({ lines: output.lines.slice(5) });
    expect([viewer.count, viewer.facts.value?.total]).toEqual([10, 10]);
  });

  it("tells no size: the answers have only that of the files in which the lines are stored", async () => {
    const output = new FakeOutput(10);
    const viewer = await opened(output);
    output.print(5);
    expect(viewer.facts.value).toEqual({ total: 15, sealed: false, truncated: false, damage: "" });
  });

  it("says what went wrong, and goes on when asked to", async () => {
    const output = new FakeOutput(10);
    output.held = Promise.reject(new Error("no answer"));
    const viewer = await opened(output);
    expect([viewer.error.value, viewer.facts.value]).toEqual(["no answer", null]);
    output.held = Promise.resolve();
    await viewer.toEnd();
    expect([viewer.error.value, viewer.count]).toEqual(["", 10]);
  });
});
