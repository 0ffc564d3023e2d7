import { describe, expect, test } from "vitest";
import { endWords, leftWords, secondsLeft, timeline } from "../src/pages/cp/deployments";
import { wrongAmount, wrongOffer, wrongPrice, type Offer } from "../src/pages/cp/offer_rules";
import { effect, entriesOf, policyOf, textsOf, wrongList } from "../src/pages/cp/policy";
import { daily, earningsBy, midnight, NOTHING_EARNED, sinceDays } from "../src/pages/cp/earnings_days";
import { takingJobs } from "../src/pages/cp/reasons";
import { ApiError } from "../src/api/client";
import { amountText, claimEach, expected, rewardWords, sum, toClaim, units } from "../src/pages/cp/rewards";
import type { Deployment, Hardware, Provider, Sample, Transaction } from "../src/api/answers";
import { linesOf, NO_USAGE, usageOf, withSample } from "../src/pages/cp/usage";
import { median, peerRows } from "../src/pages/peer_rows";

const PEER = "12D3KooWC8G7JfwSddM9Qczbv3re1ZNyURgf8L6Pe6Tf62CSiTvb";
const NONE = { cpu_mhz: 0, memory_mb: 0, vram_mb: 0 };
const UNITS = { cpu: (mhz: number) => `${mhz} MHz`, memory: (mb: number) => `${mb} MB` };

describe("what is offered", () => {
  test("lies between a tenth and nine tenths of the machine, both taken", () => {
    const [low, high] = [519, 4672];
    const wrong = (value: number, reserved = 0) => wrongAmount("CPU", value, { least: low, most: high, offered: 0, reserved }, UNITS.cpu);
    expect([low, high].map((value) => wrong(value))).toEqual(["", ""]);
    expect(wrong(low - 1)).toContain("at least 519 MHz");
    expect(wrong(high + 1)).toContain("at most 4672 MHz");
    expect(wrong(1000, 1200)).toContain("running jobs hold 1200 MHz");
    expect(wrong(Number.NaN)).toContain("whole number");
  });

  test("has a price from 0 to a million", () => {
    const wrong = (text: string) => wrongPrice(text, 1_000_000);
    expect(["0", "0.002", "1000000"].map(wrong)).toEqual(["", "", ""]);
    for (const text of ["", "-1", "1e3", "much", "1000001", "1,5"]) expect(wrong(text)).not.toBe("");
  });

  test("names each field that would be refused", () => {
    const hardware: Hardware = {
      cpu: 5192, memory: 24_105, total_cores: 2, cpu_limits: { least: 519, most: 4672, offered: 0, reserved: 0 }, memory_limits: { least: 2410, most: 21_694, offered: 0, reserved: 0 },
      gpus: [], cardano_needs: { cpu: 6000, memory: 10_000 }, channels: ["nunet-test"], most_ntx_price: 1_000_000,
    };
    const offer: Offer = { cpu: 100, memory: 99_999, price: "x", address: "addr1", channel: "nunet-rest", cardano: true };
    expect(Object.keys(wrongOffer(offer, hardware, UNITS))).toEqual(["cpu", "memory", "price", "address", "channel", "cardano"]);
    const good: Offer = { cpu: 2600, memory: 12_000, price: "0", address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", channel: "nunet-test", cardano: false };
    expect(wrongOffer(good, hardware, UNITS)).toEqual({});
  });
});

describe("why no jobs are taken", () => {
  const row = { available: true, hindrance: "", onboarded: { ...NONE, memory_mb: 10 }, free: { cpu_mhz: 5, memory_mb: 5, vram_mb: 0 }, network_trouble: "", network: "" } as Provider;

  test("is what the DMS says", () => {
    expect(takingJobs(row, { online: true, accepting: false, reasons: [{ kind: "provider", reason: "the disk is full" }] })).toMatchObject({ taking: false, reasons: ["the disk is full"] });
    expect(takingJobs(row, { online: true, accepting: true, reasons: [] })).toMatchObject({ taking: true, reasons: [] });
    expect(takingJobs(row, { online: true, accepting: false, reasons: [] }).taking).toBe(false);
  });

  test("is what the events say where the DMS's answer is older than the owner's switch, or tells no reason", () => {
    expect(takingJobs({ ...row, available: false }, { online: true, accepting: true, reasons: [] }).reasons[0]).toContain("switched offline");
    expect(takingJobs({ ...row, hindrance: "Docker is away" }, null).reasons).toEqual(["Docker is away"]);
    expect(takingJobs({ ...row, free: { ...NONE, cpu_mhz: 5 } }, null).reasons[0]).toContain("All memory on offer");
    expect(takingJobs(row, null).taking).toBe(true);
  });
});

describe("usage", () => {
  const at = (seconds: number): string => new Date(Date.UTC(2026, 0, 31, 12, 0, seconds)).toISOString().replace("Z", "000+00:00");
  const sample = (seconds: number, cpu_cores: number | null = 1): Sample => ({ time: at(seconds), cpu_cores, memory_mb: 100, gpus: [] });

  test("joins the answer and what came live meanwhile, each sample once", () => {
    const live = withSample(NO_USAGE, { job_id: null, sample: sample(20) });
    const joined = usageOf({ every_seconds: 10, cores: 2, memory_mb: 1000, machine: [sample(0, null), sample(10), sample(20)], jobs: [{ job_id: "a", samples: [sample(10)] }] }, live);
    expect(joined.machine.map(({ time }) => time)).toEqual([at(0), at(10), at(20)]);
    expect(withSample(joined, { job_id: "a", sample: sample(20) }).jobs.get("a")).toHaveLength(2);
  });

  test("keeps an hour, and draws a pause as a gap", () => {
    let usage = NO_USAGE;
    for (let second = 0; second <= 7200; second += 10) usage = withSample(usage, { job_id: null, sample: sample(second) });
    expect(usage.machine.length).toBe(361);
    expect(linesOf([sample(0), sample(10), sample(300)]).cores).toEqual([1, 1, null, 1]);
  });
});

describe("a job here", () => {
  const job = { price: "0.4", minutes: 10, started_at: "2026-01-31T12:00:00.000000+00:00", ended_at: null } as Deployment;
  const after = (minutes: number): number => Date.UTC(2026, 0, 31, 12) + minutes * 60_000;

  test("has a time that runs out", () => {
    expect(secondsLeft(job, after(4))).toBe(360);
    expect(leftWords(secondsLeft(job, after(9.5)))).toBe("30 s left");
    expect(leftWords(secondsLeft(job, after(60)))).toBe("time is over");
    expect(leftWords(secondsLeft({ ...job, started_at: null }, after(1)))).toBe("not started");
  });

  test("earns by the rule of rewards", () => {
    expect([4, 5, 7.5].map((minutes) => expected(job, after(minutes)).cutShort)).toEqual(["0", "0.2", "0.3"]);
    expect(expected(job, after(1)).completed).toBe("0.4");
    expect(expected({ ...job, price: "a lot" }, after(1)).completed).toBe("");
  });

  test("ends with a reason, and whose fault it was", () => {
    expect(endWords({ status: "failed", fault: "provider", exit_code: null, reason: "Docker went away" } as Deployment)).toBe("failed by this machine's fault: Docker went away");
    expect(endWords({ status: "failed", fault: "", exit_code: 3, reason: "" } as Deployment)).toBe("failed with exit code 3");
  });

  test("has steps with the time between them; an unknown one keeps its name", () => {
    const rows = timeline([
      { topic: "deployment.requested", position: 1, time: "2026-01-31T12:00:00+00:00", data: {} },
      { topic: "job.completed", position: 2, time: "2026-01-31T12:00:01+00:00", data: {} },
      { topic: "deployment.teleported", position: 3, time: "2026-01-31T12:00:02.5+00:00", data: { reason: "why not" } },
    ]);
    expect(rows.map(({ words, note, seconds }) => [words, note, seconds])).toEqual([["asked for", "", null], ["deployment.teleported", "why not", 2.5]]);
  });
});

describe("rewards", () => {
  test("are summed to the last place", () => {
    expect(sum(["0.1", "0.2", "999999999999999.00000001"])).toBe("999999999999999.30000001");
    expect(amountText(units("12.50000000") ?? 0n)).toBe("12.5");
    expect(["", "-1", "x"].map(units)).toEqual([null, null, null]);
  });

  test("are claimed though others can't be, which are named", async () => {
    const paid = (job_id: string, tx_hash = job_id) => ({ job_id, tx_hash }) as Transaction;
    const claimed: string[] = [];
    const claim = async ({ tx_hash }: Transaction) => {
      if (tx_hash === "unknown") throw new ApiError({ status: 404, title: "", detail: "no such transaction" });
      if (tx_hash === "away") throw new ApiError({ status: 0, title: "", detail: "no answer" });
      claimed.push(tx_hash);
    };
    await claimEach([paid("a"), paid("b")], claim);
    await expect(claimEach([paid("c"), paid("d", "erased"), paid("e", "unknown"), paid("f")], claim)).rejects.toThrow(/^2 of 4 not claimed. job d: .*erased.*; job e: no such transaction$/);
    await expect(claimEach([paid("g"), paid("h", "away"), paid("i")], claim)).rejects.toThrow("no answer");
    await expect(claimEach([], claim)).rejects.toThrow("Nothing was claimed");
    expect(claimed).toEqual(["a", "b", "c", "f", "g"]);
  });

  test("can be claimed of jobs that are over, earned something here, and were not claimed", () => {
    const paid: Transaction = { tx_hash: "a", transaction_type: "withdraw", paid_at: null, ended_at: null, job_id: "j", role: "compute provider", price: "1", minutes: 1, payee: "", payer: "", reward_type: "withdraw", to_provider: "1", to_requester: "0", claimed: false, settled_by: "", date_time: "", units: "" };
    expect(toClaim([paid, { ...paid, claimed: true }, { ...paid, transaction_type: "done" }, { ...paid, role: "service provider" }, { ...paid, to_provider: "0" }, { ...paid, reward_type: "" }])).toEqual([paid]);
  });
});

describe("earnings", () => {
  const earned = (group: string, earned_ntx: string) => ({ ...NOTHING_EARNED, group, jobs: 1, earned_ntx });

  test("have a bar for each day, also for one without a job", () => {
    const found = daily([earned("2026-01-03", "2"), earned("2026-01-01", "0.5")]);
    expect(found.earned).toEqual([0.5, 0, 2]);
    expect(found.times[0]).toBe(Date.UTC(2026, 0, 1) / 1000);
    expect(daily([])).toEqual({ times: [], earned: [] });
  });

  test("are asked for since a day began", () => {
    const noon = Date.UTC(2026, 0, 31, 12);
    expect(sinceDays(1, noon)).toBe("2026-01-31T00:00:00.000Z");
    expect(sinceDays(30, noon)).toBe("2026-01-02T00:00:00.000Z");
    expect(sinceDays(0, noon)).toBe("");
    expect(sinceDays(30, null)).toBe("");
    expect(new Date(midnight(noon)).getHours()).toBe(0);
  });

  test("of GPUs are asked for as what they are, and other groups of this machine's jobs alone", () => {
    expect(earningsBy("gpu")).toEqual({ path: "/earnings/gpus", query: {} });
    expect(earningsBy("peer")).toEqual({ path: "/earnings", query: { by: "peer", role: "compute provider" } });
  });

  test("are told in words", () => {
    const job = { paid: true, price: "1", cost: "0.75", claimed: false, settled: false };
    expect(rewardWords(job)).toBe("75 % of the price, to claim");
    expect(rewardWords({ ...job, cost: "1", claimed: true })).toBe("all of the price, claimed");
    expect(rewardWords({ ...job, cost: "0" })).toContain("owed back");
    expect(rewardWords({ ...job, paid: false, cost: "" })).toContain("not paid for");
  });
});

describe("lists of whom and what is taken", () => {
  test("are entries a line, there and back", () => {
    const policy = { images: { allow: ["a/b:*"], deny: [] }, peers: { allow: [], deny: [PEER] } };
    expect(policyOf(textsOf(policy))).toEqual(policy);
    expect(entriesOf(" a \n\n b,c ")).toEqual(["a", "b", "c"]);
  });

  test("are checked before they are sent", () => {
    expect(wrongList("peers.deny", `${PEER}\nnobody`)).toContain("nobody is no peer id");
    expect(wrongList("images.deny", "a\na")).toContain("twice");
    expect(wrongList("images.deny", Array.from({ length: 1001 }, (_, index) => `i${index}`).join("\n"))).toContain("at most 1000");
    expect(wrongList("images.allow", "docker.io/library/alpine:*")).toBe("");
    expect(effect("images.allow", 1)).toContain("every other image is refused");
  });
});

describe("peers", () => {
  test("are one list: the default first, then by distance, providers that are away last", () => {
    const provider = { provider: "far", own: false, channel: "nunet-test", online: true } as Provider;
    const rows = peerRows([{ ID: "b", id: "b", Addrs: [], addrs: [], rtt_ms: 9 }, { ID: "a", id: "a", Addrs: [], addrs: [], rtt_ms: 2 }, { ID: "c", id: "c", Addrs: [], addrs: [] }], [provider, { ...provider, provider: "a" }], "c");
    expect(rows.map(({ peerId }) => peerId)).toEqual(["c", "a", "b", "far"]);
    expect(rows[1]?.provider?.provider).toBe("a");
    expect(median([9, null, 2, 4])).toBe(4);
    expect(median([null])).toBeNull();
  });
});
