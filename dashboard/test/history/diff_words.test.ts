import { describe, expect, it } from "vitest";
import { capacityTold, jobsTold, type Diff } from "../../src/components/history/diff_words";

const diff = (change: Partial<Diff>): Diff => ({ from: 1, to: 9, events: 8, jobs: [], capacity: [], ...change });
const job = { job_id: "1f5a-0001-aaaa-bbbb", role: "service provider", status: "submitted", image: "train:1", peer: "12D3KooWabcdvo1G", price: "1.50", unreachable: false, exit_code: null, log_lines: null, position: 4, timeline: [] };

describe("what changed between two moments", () => {
  it("is told of a new job", () => {
    expect(jobsTold(diff({ jobs: [{ key: job.job_id, before: null, after: job }] }))).toEqual([
      { page: `/sp/jobs/${job.job_id}`, title: "New job train:1 (1f5a…bbbb): submitted", details: ["on 12D3…vo1G, price 1.50 NTX"] },
    ]);
  });

  it("is told of a job that went on", () => {
    const after = { ...job, status: "completed", exit_code: 0, log_lines: 1200, position: 9, timeline: [1] };
    expect(jobsTold(diff({ jobs: [{ key: job.job_id, before: job, after }] }))).toEqual([
      { page: `/sp/jobs/${job.job_id}`, title: "Job train:1 (1f5a…bbbb): submitted → completed", details: ["exit code: 0", "log lines: 1,200"] },
    ]);
    expect(jobsTold(diff({ jobs: [{ key: job.job_id, before: job, after: { ...job, unreachable: true, reason: "no answer" } }] }))[0]).toMatchObject({
      title: "Job train:1 (1f5a…bbbb): still submitted", details: ["unreachable: yes", "reason: no answer"],
    });
  });

  it("is told of capacity in its units", () => {
    const before = { own: true, online: true, onboarded: { cpu_mhz: 4000, memory_mb: 2048 }, reserved: { cpu_mhz: 0, memory_mb: 0 }, ntx_price: "0.10", gpus: [] };
    const after = { ...before, online: false, reserved: { cpu_mhz: 500, memory_mb: 64 }, ntx_price: "0.20", gpus: [{ uuid: "a" }] };
    expect(capacityTold(diff({ capacity: [{ key: "self", before, after }] }))).toEqual([
      { page: "", title: "This machine", details: ["online: no longer", "reserved cpu: 0 MHz → 500 MHz", "reserved memory: 0 MB → 64 MB", "ntx price: 0.10 NTX → 0.20 NTX", "gpus changed"] },
    ]);
  });

  it("is told of rows that came and went", () => {
    expect(capacityTold(diff({ capacity: [{ key: "12D3KooWabcdvo1G", before: null, after: { own: false } }, { key: "12D3KooWabcdvo1H", before: { own: false }, after: null }] })).map(({ title }) => title)).toEqual(["Provider 12D3…vo1G is known", "Provider 12D3…vo1H is not known any more"]);
    expect(jobsTold(diff({ jobs: [{ key: job.job_id, before: job, after: null }] }))[0]?.title).toContain("was not there any more");
  });

  it("has a bound", () => {
    const many = (value: number) => Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`field${index}`, value]));
    expect(jobsTold(diff({ jobs: [{ key: "a", before: { ...job, ...many(1) }, after: { ...job, ...many(2) } }] }))[0]?.details).toHaveLength(13);
  });
});
