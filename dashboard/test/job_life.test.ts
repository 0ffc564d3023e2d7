import { describe, expect, it } from "vitest";
import { ifStopped, moneyText, nextShare, percentAfter, type Billed } from "../src/domain/job_money";
import { now, type Present } from "../src/domain/job_now";
import { patched, type PatchedRow } from "../src/domain/job_patch";
import { ticks, timelineOf, type Happening } from "../src/domain/job_steps";
import { SparseRows } from "../src/domain/sparse_rows";
import type { LogEvent } from "../src/live/protocol";

const START = Date.parse("2026-01-31T12:00:00Z");
const story = (...events: [seconds: number, topic: string, data?: Record<string, unknown>][]): Happening[] =>
  events.map(([seconds, topic, data = {}], index) => ({ position: index + 1, time: new Date(START + seconds * 1000).toISOString(), topic, data }));
const shown = (happenings: Happening[]) =>
  timelineOf(happenings).steps.map(({ name, tone, from, to }) => `${name} ${tone} ${(from - START) / 1000}${to === null ? ".." : `-${(to - START) / 1000}`}`);
const paid: [number, string, Record<string, unknown>?][] = [
  [0, "job.service_requested", { price: "0.4" }], [10, "job.fund_status_reported", { transaction_status: "success" }],
  [11, "job.funding_accepted"], [11, "job.submitted"],
];

describe("a job's steps", () => {
  it("are told with what the provider signed, inputs and results", () => {
    const happenings = story(
      ...paid,
      [12, "job.provider_reported", { record: { topic: "deployment.accepted" } }], [15, "job.provider_reported", { record: { topic: "deployment.image_pulled" } }],
      [15, "job.input_started", { number: 1, path: "a.bin" }], [18, "job.input_done", { number: 1, path: "a.bin", size_bytes: 1500 }],
      [18, "job.provider_reported", { record: { topic: "deployment.container_created" } }], [19, "job.deployment_responded", { success: true }],
      [25, "job.results_offered", { size_bytes: 10 }], [26, "job.completed"], [27, "job.results_received", { size_bytes: 10 }],
    );
    expect(shown(happenings)).toEqual([
      "Asked and quoted done 0-0", "Waits for its payment done 0-10", "Payment is checked done 10-11", "Provider makes it ready done 11-19",
      "Image is fetched done 12-15", "Input 1 is fetched done 15-18", "Container starts done 18-19", "Runs done 19-26",
      "Results are fetched done 25-27", "Completed done 26-26",
    ]);
  });

  it("show an attempt that was repeated as past, and only the last end as a failure", () => {
    const happenings = story(
      ...paid, [12, "job.deployment_responded", { success: true }], [20, "job.provider_unreachable", { reason: "no answer" }],
      [30, "job.attempt_failed", { attempt: 1, reason: "away" }], [31, "job.attempt_started", { attempt: 2 }], [33, "job.deployment_responded", { success: true }],
      [40, "job.failed", { reason: "exit code 3" }],
    );
    expect(shown(happenings).slice(4)).toEqual([
      "Runs past 12-30", "Provider does not answer past 20-30", "Attempt 1 failed past 30-30", "Next provider is looked for done 30-31",
      "Provider makes it ready done 31-33", "Runs failed 33-40", "Failed failed 40-40",
    ]);
  });

  it("go on until something ends them, and gaps are rows", () => {
    const happenings = story([0, "job.service_requested"], [5, "job.fund_status_reported", { transaction_status: "success" }], [6, "job.funding_accepted"], [9, "job.submitted"]);
    expect(shown(happenings).slice(2)).toEqual(["Payment is checked done 5-6", "Nothing was recorded gap 6-9", "Provider makes it ready going 9.."]);
  });

  it("show what no page knows yet as it is", () => expect(shown(story([0, "job.frozen"]))).toEqual(["job.frozen done 0-0"]));

  it("go on by the clock while one of them does, also after the end", () => {
    const over = [...paid, [20, "job.results_offered", { size_bytes: 10 }], [21, "job.completed"]] as typeof paid;
    const stories = [paid, over, [...over, [30, "job.results_received", { size_bytes: 10 }]] as typeof paid];
    expect(stories.map((one) => ticks(timelineOf(story(...one))))).toEqual([true, true, false]);
  });
  it("tell that a stop was asked for", () => expect(timelineOf(story(...paid, [20, "job.termination_requested", { reason: "r" }])).stopping).toBe(true));
});

const billed: Billed = { status: "running", price: "0.4", minutes: 10, paid: true, cost: "", refund: false };

describe("money", () => {
  it.each([[0, 0], [299, 0], [300, 50], [449, 50], [450, 75]])("after %d s of 10 minutes a stop costs %d %%", (seconds, percent) => expect(percentAfter(seconds, 10)).toBe(percent));
  it("is computed exactly", () => expect(ifStopped({ price: "0.00000003", minutes: 10 }, 300).cost).toBe("0.00000001"));
  it("tells when a stop begins to cost more", () => {
    expect(nextShare(10, 0)).toEqual({ atSeconds: 300, percent: 50 });
    expect(nextShare(10, 450)).toBeNull();
  });
  it.each<[Partial<Billed>, string]>([
    [{ status: "awaiting", paid: false }, "Nothing is paid yet"],
    [{ status: "failed", refund: true, cost: "0" }, "all 0.40 NTX are owed back"],
    [{ status: "failed", cost: "0" }, "earns nothing: all 0.40 NTX"],
    [{ status: "failed", cost: "0.3" }, "0.30 NTX are the provider's, 0.10 NTX are owed back"],
    [{ status: "completed", cost: "0.4" }, "earned all of it: 0.40 NTX"],
    [{ status: "failed", paid: false }, "No payment was accepted"],
    [{ status: "expired", paid: false }, "can pay for a new request"],
  ])("%j", (change, text) => expect(moneyText({ ...billed, ...change })).toContain(text));
});

describe("a job at present", () => {
  const job: Present = { ...billed, peer: "p", unreachable: false, reason: "", fault: "", exit_code: null, attempt: 1, attempts: 1, log_lines: null };
  it("says whose fault a bad end was, and nothing of faults before", () => {
    expect(now({ ...job, status: "failed", fault: "provider", reason: "its engine failed", cost: "0" })).toMatchObject({ headline: "The job failed: its engine failed.", fault: "The provider is at fault, not the job." });
    expect(now({ ...job, fault: "provider" }).fault).toBe("");
  });
  it("does not call what its own user stopped a fault of the request", () => {
    const stopped = { ...job, status: "failed", fault: "requester", reason: "terminated by its owner", cost: "0" };
    expect(now(stopped, 0, true)).toMatchObject({ headline: "You stopped the job.", fault: "" });
    expect(now({ ...stopped, reason: "wrong data" }, 0, true).headline).toBe("You stopped the job: wrong data.");
    expect(now({ ...stopped, fault: "provider", reason: "its engine failed" }, 0, true).fault).toContain("provider");
    expect(now(stopped).fault).toContain("up to the request");
  });
  it("says that its provider is away before all else", () => expect(now({ ...job, unreachable: true }).headline).toContain("does not answer"));
});

describe("rows follow events at once", () => {
  const row: PatchedRow = { job_id: "j", status: "running", peer: "p", unreachable: false, started_at: null, ended_at: null, exit_code: null, fault: "", duration_seconds: 0, refund: false, paid: true, minutes: 1, attempt: 1, log_lines: null, position: 10 };
  const event = (position: number, topic: string, data = {}, job = "j") => ({ position, type: `io.nunet.dms.${topic}.v1`, subject: `job-${job}`, time: "2026-01-31T12:00:00Z", data }) as unknown as LogEvent;
  it("of their own job, once", () => {
    const after = patched(row, event(11, "job.failed", { fault: "job", exit_code: 3 }));
    expect(after).toMatchObject({ status: "failed", exit_code: 3, fault: "job", position: 11 });
    expect(patched(after, event(11, "job.completed"))).toBe(after);
    expect(patched(row, event(9, "job.completed"))).toBe(row);
    expect(patched(row, event(12, "job.completed", {}, "k"))).toBe(row);
  });
});

describe("a long list", () => {
  const rows = (from: number, count: number) => Array.from({ length: count }, (_, index) => ({ job_id: `j${from + index}` }));
  it("asks for the pages in sight, keeps old rows until newer ones are here, and keeps few", () => {
    const list = new SparseRows<{ job_id: string }>(100);
    expect(list.wanted(0, 30)).toEqual([0]);
    list.put(0, rows(0, 100), 10_000);
    expect(list.wanted(0, 30)).toEqual([]);
    expect(list.wanted(90, 120)).toEqual([1]);
    list.expire();
    expect([list.wanted(0, 30), list.get(5)?.job_id, list.indexOf("j7")]).toEqual([[0], "j5", 7]);
    for (let page = 1; page < 60; page++) list.put(page, rows(page * 100, 100), 10_000);
    expect([list.get(5), list.get(5900)?.job_id]).toEqual([undefined, "j5900"]);
  });
  it("forgets what is behind its new end", () => {
    const list = new SparseRows<{ job_id: string }>(100);
    list.put(1, rows(100, 100), 200);
    list.put(0, rows(0, 50), 50);
    expect(list.get(120)).toBeUndefined();
  });
});
