import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { JobRow } from "../src/api/answers";
import { JobRows, REQUESTED } from "../src/app/job_rows";
import type { LogEvent } from "../src/live/protocol";

let tell: (event: LogEvent) => void;
vi.mock("../src/live/live", () => ({
  onEvents: (_: unknown, take: (event: LogEvent) => void) => {
    tell = take;
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
