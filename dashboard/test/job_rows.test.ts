import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { JobRow } from "../src/api/answers";
import { JobRows, REQUESTED } from "../src/app/job_rows";
import type { LogEvent } from "../src/live/protocol";

let tell: (event: LogEvent) => void;
let lose: () => void;
vi.mock("../src/live/live", () => ({
  onEvents: ({ failed }: { failed: () => void }, take: (event: LogEvent) => void) => {
    [tell, lose] = [take, failed];
    return () => undefined;
  },
  onReturn: () => () => undefined,
  askTogether: () => Promise.resolve(null),
}));

const requested = (position: number, job: string) =>
  ({ position, type: "io.nunet.dms.job.service_requested.v2", subject: `job-${job}`, correlationid: job, time: "2026-01-31T12:00:00Z", data: {} }) as unknown as LogEvent;
const fetched = vi.fn<typeof fetch>();
const answers = (position: number, ...jobs: string[]) =>
  new Response(JSON.stringify({ items: jobs.map((job_id) => ({ job_id, status: "awaiting" })) }), { headers: { "x-position": String(position), "x-total": String(jobs.length) } });

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", fetched);
  fetched.mockReset();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a list that is to be asked for anew while it is being asked for is asked for once more", async () => {
  let answer: (response: Response) => void = () => undefined;
  fetched.mockImplementationOnce(() => new Promise((later) => (answer = later)));
  fetched.mockImplementationOnce(() => Promise.resolve(answers(5, "a")));
  const rows = new JobRows<JobRow>({}, "", REQUESTED);
  rows.reload();
  answer(answers(5));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(rows.list.get(0)?.job_id).toBe("a");
  expect(fetched).toHaveBeenCalledTimes(2);
  rows.close();
});

test("a job that comes while a list is asked for is in it, whatever that answer shows", async () => {
  let answer: (response: Response) => void = () => undefined;
  fetched.mockImplementationOnce(() => Promise.resolve(answers(5)));
  fetched.mockImplementationOnce(() => new Promise((later) => (answer = later)));
  fetched.mockImplementationOnce(() => Promise.resolve(answers(7, "b", "a")));
  const rows = new JobRows<JobRow>({}, "", REQUESTED);
  await vi.advanceTimersByTimeAsync(10);
  tell(requested(6, "a"));
  await vi.advanceTimersByTimeAsync(1_000); // it is being asked for
  tell(requested(7, "b"));
  answer(answers(6, "a"));
  await vi.advanceTimersByTimeAsync(10_000);
  expect([0, 1].map((index) => rows.list.get(index)?.job_id)).toEqual(["b", "a"]);
  expect(fetched).toHaveBeenCalledTimes(3);
  rows.close();
});

test("another query asks for the rows that are looked at, though the list does not tell of them anew", async () => {
  fetched.mockImplementation((url) => {
    const offset = Number(new URL(String(url), "http://dms.example").searchParams.get("offset"));
    const items = Array.from({ length: 50 }, (_, index) => ({ job_id: `j${offset + index}`, status: "awaiting" }));
    return Promise.resolve(new Response(JSON.stringify({ items }), { headers: { "x-position": "5", "x-total": "1000" } }));
  });
  const sight = { first: 0, last: 40 };
  const [before, after] = [{ q: "a" }, { q: "b" }].map((query) => new JobRows<JobRow>(query, "", REQUESTED, sight)) as [JobRows, JobRows];
  before.seen(500, 520);
  await vi.advanceTimersByTimeAsync(1_000);
  expect([before, after].map(({ list }) => list.get(510)?.job_id)).toEqual(["j510", "j510"]);
  before.close();
  after.close();
});

test("a list of a log that was restored forgets what is no more, and asks no longer than it has to", async () => {
  fetched.mockImplementation(() => Promise.resolve(answers(5, "a")));
  const rows = new JobRows<JobRow>({}, "", REQUESTED);
  await vi.advanceTimersByTimeAsync(10);
  tell(requested(6, "a"));
  tell({ ...requested(7, "a"), type: "io.nunet.dms.job.completed.v1" });
  await vi.advanceTimersByTimeAsync(10);
  lose();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(rows.list.get(0)?.status).toBe("awaiting");
  fetched.mockClear();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(fetched).not.toHaveBeenCalled();
  rows.close();
});

test("a job of a log that was restored is shown as it is there, not as it was", async () => {
  const { JobEvents } = await import("../src/pages/sp/job_events");
  const log = (...positions: number[]) => positions.map((position) => ({ position, topic: `job.of${position}` }));
  let [status, events] = ["awaiting", log(1, 5)];
  fetched.mockImplementation((url) => {
    const { pathname, searchParams } = new URL(String(url), "http://dms.example");
    const [after, position] = [Number(searchParams.get("after") ?? 0), events.at(-1)?.position ?? 0];
    const body = pathname.endsWith("/history") ? { items: events.filter((one) => one.position > after), next_token: "" } : { job_id: "a", status, position };
    return Promise.resolve(new Response(JSON.stringify(body), { headers: { "x-position": String(position) } }));
  });
  const job = new JobEvents("a", "");
  await vi.advanceTimersByTimeAsync(1_000);
  [status, events] = ["completed", log(1, 5, 8, 9)];
  tell(requested(9, "a"));
  await vi.advanceTimersByTimeAsync(2_000);
  expect([job.job.value?.status, job.events.value.map(({ position }) => position)]).toEqual(["completed", [1, 5, 8, 9]]);
  [status, events] = ["running", log(1, 5, 6)];
  lose();
  await vi.advanceTimersByTimeAsync(2_000);
  expect([job.job.value?.status, job.events.value.map(({ position }) => position)]).toEqual(["running", [1, 5, 6]]);
  job.close();
});

test("a row keeps its key when another job comes before it", async () => {
  fetched.mockImplementationOnce(() => Promise.resolve(answers(5, "a"))).mockImplementation(() => Promise.resolve(answers(6, "b", "a")));
  const rows = new JobRows<JobRow>({}, "", REQUESTED);
  await vi.advanceTimersByTimeAsync(10);
  const before = rows.keyOf(0);
  tell(requested(6, "b"));
  await vi.advanceTimersByTimeAsync(2_000);
  expect([before, rows.keyOf(1), rows.keyOf(2)]).toEqual(["a", "a", "missing2"]);
  rows.close();
});
