import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Link } from "../src/live/protocol";

let tell: (position: number) => void = () => undefined;
let returned: () => void = () => undefined;
vi.mock("../src/live/live", async () => ({
  onEvents: (_: unknown, take: (event: { position: number }) => void) => {
    tell = (position) => take({ position });
    return () => undefined;
  },
  onReturn: (act: () => void) => {
    returned = act;
    return () => undefined;
  },
  askTogether: () => Promise.resolve(null),
  link: (await import("@preact/signals")).signal<Link>({ state: "live", position: 0, lastHeard: 0, aheadMs: 0, reason: "" }),
}));

const fetched = vi.fn<typeof fetch>();
const answer = (position = 5) => Promise.resolve(new Response("{}", { headers: { "x-position": String(position) } }));
const refusal = (status: number, headers = {}) => Promise.resolve(new Response("{}", { status, headers }));

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", fetched);
  vi.stubGlobal("document", { documentElement: {}, hidden: true, querySelector: () => null });
  vi.stubGlobal("location", { pathname: "/dashboard/", search: "", hash: "" });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("history", {});
  fetched.mockReset();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function followed(types = ["job"]) {
  const [{ signal }, { Following }] = await Promise.all([import("@preact/signals"), import("../src/app/view")]);
  const view = { answer: signal(null), error: signal(""), loading: signal(true), reload: () => undefined };
  const following = new Following("/jobs/summary", {}, false, () => ({ types }), view);
  following.load();
  await vi.advanceTimersByTimeAsync(0);
  return { view, following };
}

test("what could not be had is asked for again by itself, each time later", async () => {
  fetched.mockImplementation(() => refusal(503));
  const { view, following } = await followed();
  expect(view.error.value).not.toBe("");
  await vi.advanceTimersByTimeAsync(7_500); // 1, 2 and 4 s
  expect(fetched).toHaveBeenCalledTimes(4);
  fetched.mockImplementation(() => answer());
  await vi.advanceTimersByTimeAsync(8_000);
  expect([view.error.value, fetched.mock.calls.length]).toEqual(["", 5]);
  following.end();
});

test("a DMS that says when to ask again is not asked before, whatever happens", async () => {
  fetched.mockImplementationOnce(() => answer()).mockImplementationOnce(() => refusal(429, { "retry-after": "20" })).mockImplementation(() => answer(9));
  const { view, following } = await followed();
  tell(6);
  await vi.advanceTimersByTimeAsync(1_000);
  tell(7);
  returned();
  await vi.advanceTimersByTimeAsync(18_000);
  expect([fetched.mock.calls.length, view.error.value !== ""]).toEqual([2, true]);
  await vi.advanceTimersByTimeAsync(2_000);
  expect([fetched.mock.calls.length, view.error.value]).toEqual([3, ""]);
  following.end();
});

test("what is refused for good is not asked for again, and a DMS that is back is asked at once", async () => {
  fetched.mockImplementation(() => refusal(403));
  const { following } = await followed();
  await vi.advanceTimersByTimeAsync(600_000);
  expect(fetched).toHaveBeenCalledTimes(1);
  following.end();
  fetched.mockReset().mockImplementation(() => refusal(503));
  const other = await followed();
  await vi.advanceTimersByTimeAsync(60_000);
  fetched.mockReset().mockImplementation(() => answer());
  returned();
  await vi.advanceTimersByTimeAsync(600);
  expect([fetched.mock.calls.length, other.view.error.value]).toEqual([1, ""]);
  other.following.end();
});

test("six views under any stream of events stay below what a token may ask", async () => {
  let position = 5;
  fetched.mockImplementation(() => answer(position));
  const { following } = await followed();
  fetched.mockClear();
  for (let tenth = 0; tenth < 600; tenth++) {
    tell(++position);
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(fetched.mock.calls.length * 6).toBeLessThan(1_000);
  expect(fetched.mock.calls.length).toBeGreaterThan(60);
  following.end();
});

test("the first event after a quiet time is shown soon", async () => {
  fetched.mockImplementation(() => answer());
  const { following } = await followed();
  await vi.advanceTimersByTimeAsync(5_000);
  tell(6);
  await vi.advanceTimersByTimeAsync(130);
  expect(fetched).toHaveBeenCalledTimes(2);
  following.end();
});

test("times are the DMS's, and a page that is left open tells yesterday's from today's", async () => {
  vi.setSystemTime(new Date(2026, 5, 30, 23, 59, 30));
  vi.resetModules();
  vi.stubGlobal("document", { documentElement: {}, hidden: false, querySelector: () => null });
  const [{ link }, { hour, now, today }, { localTime }] = await Promise.all([import("../src/live/live"), import("../src/app/clock"), import("../src/app/format")]);
  const noon = new Date(2026, 5, 30, 12);
  expect(localTime(noon)).toBe("12:00:00");
  const before = [today.value, hour.value] as const;
  expect([new Date(today.value).getDate(), now.value]).toEqual([30, Date.now()]);
  await vi.advanceTimersByTimeAsync(31_000);
  expect([today.value, hour.value]).toEqual([before[0] + 86_400_000, before[1] + 1]);
  expect(localTime(noon)).toBe("30 Jun, 12:00");
  link.value = { ...link.value, aheadMs: -60_000 };
  expect([today.value, now.value]).toEqual([before[0], Date.now() - 60_000]);
});
