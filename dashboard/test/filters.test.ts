import { afterEach, beforeEach, expect, it, vi } from "vitest";

const page = { pathname: "/dashboard/sp", search: "", hash: "" };
let past: typeof import("../src/components/history/past");
let filters: typeof import("../src/pages/sp/filters");
const opened = async (search: string) => {
  page.search = search;
  [past, filters] = await Promise.all([import("../src/components/history/past"), import("../src/pages/sp/filters")]);
  return () => filters.wanted(filters.clock())["since"];
};

beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse("2026-06-30T12:00:00Z") });
  vi.resetModules();
  vi.stubGlobal("location", page);
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("document", { hidden: false, querySelector: () => null });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("a period is counted from now", async () => expect((await opened("?within=24h"))()).toBe("2026-06-29T12:00:00.000Z"));

it("a period in the past is counted from the time that is looked at", async () => expect((await opened("?within=24h&at=2026-01-31T12:00:00Z"))()).toBe("2026-01-30T12:00:00.000Z"));

it("a period at a position is counted from that event, about where only its neighbours are known", async () => {
  const since = await opened("?within=1h&at=15");
  expect(since()).toBeUndefined();
  past.span.value = {
    first_position: 1, head: 20, first_time: "2026-01-31T00:00:00Z", last_time: "2026-01-31T02:00:00Z",
    buckets: [{ position: 1, count: 10, time: "2026-01-31T00:00:00Z" }, { position: 11, count: 10, time: "2026-01-31T01:00:00Z" }],
  };
  expect(since()).toBe("2026-01-31T00:24:00.000Z");
  past.there.value = { position: 15, time: "2026-01-31T01:30:00Z", event: "" };
  expect(since()).toBe("2026-01-31T00:30:00.000Z");
});

it("what is searched for is meant without the blanks that came with it", async () => {
  await opened("?q=%20ab%20c%0A");
  expect([filters.wanted(0)["q"], filters.wantedOfAnyStatus(0)["q"], filters.areFiltered()]).toEqual(["ab c", "ab c", true]);
  await opened("?q=%20");
  vi.resetModules();
  await opened("?q=%20");
  expect([filters.wanted(0)["q"], filters.areFiltered()]).toEqual([undefined, false]);
});
