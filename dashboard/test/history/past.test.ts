import { afterEach, beforeEach, expect, it, vi } from "vitest";

let past: typeof import("../../src/components/history/past");
let live: typeof import("../../src/live/live");
const fetched = vi.fn<typeof fetch>();
const spanTo = (head: number) => ({ first_position: 1, head, first_time: null, last_time: null, buckets: [] });

beforeEach(async () => {
  vi.useFakeTimers();
  vi.resetModules();
  vi.stubGlobal("location", { pathname: "/dashboard/sp", search: "", hash: "" });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("document", { hidden: false, querySelector: () => null });
  vi.stubGlobal("fetch", fetched.mockReset());
  [past, live] = await Promise.all([import("../../src/components/history/past"), import("../../src/live/live")]);
  past.span.value = spanTo(20);
  live.link.value = { state: "live", position: 20, lastHeard: 1, aheadMs: 0, reason: "" };
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("the slider at now reads the log's span again when the log has grown, and only then", async () => {
  fetched.mockImplementation(() => Promise.resolve(new Response(JSON.stringify(spanTo(25)))));
  await past.freshen();
  expect(fetched).not.toHaveBeenCalled();
  live.link.value = { ...live.link.value, position: 25 };
  await past.freshen();
  await past.freshen();
  expect([past.span.value?.head, fetched.mock.calls.length]).toEqual([25, 1]);
});

it("the slider stays as it is while one looks at the past", async () => {
  past.thumb.value = 7;
  live.link.value = { ...live.link.value, position: 25 };
  await past.freshen();
  expect(fetched).not.toHaveBeenCalled();
});
