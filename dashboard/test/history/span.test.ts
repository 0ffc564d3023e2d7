import { describe, expect, it } from "vitest";
import { bars, eventsIn, positionIn, stepped, timeNear, type LogSpan } from "../../src/components/history/span";

const span: LogSpan = {
  first_position: 11, head: 110, first_time: "2026-01-31T12:00:00.000Z", last_time: "2026-01-31T12:04:00.000Z",
  buckets: [
    { position: 11, time: "2026-01-31T12:00:00.000Z", count: 10 }, { position: 21, time: "2026-01-31T12:01:00.000Z", count: 0 },
    { position: 21, time: "2026-01-31T12:02:00.000Z", count: 40 }, { position: 61, time: "2026-01-31T12:03:00.000Z", count: 50 },
  ],
};

describe("the log as a line of positions", () => {
  it("has a bar for each time in which something happened, side by side", () => {
    const drawn = bars(span);
    expect(drawn.map(({ x, width }) => [x, width])).toEqual([[0, 100], [100, 400], [500, 500]]);
    expect(drawn.map(({ height }) => height)).toEqual([...drawn.map(({ height }) => height)].sort((one, other) => one - other));
    expect(drawn.at(-1)?.height).toBe(1);
  });

  it("counts the events that its reader may see", () => {
    expect([eventsIn(span), eventsIn({ ...span, buckets: [] })]).toEqual([100, 0]);
  });

  it("tells about when an event was", () => {
    expect(timeNear(span, 11)).toBe("2026-01-31T12:00:00.000Z");
    expect(timeNear(span, 41)).toBe("2026-01-31T12:02:30.000Z");
    expect(timeNear(span, 110)).toBe("2026-01-31T12:03:58.800Z");
    expect(timeNear({ ...span, buckets: [], last_time: null }, 5)).toBeNull();
  });

  it("is walked by keys: one event, ten with Shift, no further than its ends", () => {
    expect([stepped("ArrowLeft", false, 50, 11, 110), stepped("ArrowRight", true, 50, 11, 110), stepped("ArrowLeft", true, 15, 11, 110)]).toEqual([49, 60, 11]);
    expect([stepped("Home", false, 50, 11, 110), stepped("End", false, 50, 11, 110), stepped("PageUp", false, 50, 11, 110)]).toEqual([11, 110, 110]);
    expect(stepped("a", false, 50, 11, 110)).toBeNull();
  });

  it("knows positions from times", () => {
    expect([positionIn("1234"), positionIn(""), positionIn("2026-01-31T12:00:00Z"), positionIn("-1")]).toEqual([1234, null, null, null]);
  });
});
