import { describe, expect, test } from "vitest";
import type { LogEvent } from "../src/live/protocol";
import { moved, onboarded, seenBefore } from "../src/pages/cp/capacity";
import { gpuBar, resourceBar } from "../src/pages/cp/capacity_bars";
import type { Deployment, Gpu, Provider } from "../src/api/answers";

const JOB = "01a22743-a28d-7000-b8d7-45570fe1cfa1";
const OTHER = "01a22743-afc7-7000-a487-c3ff1c3c1777";
const card = (uuid: string): Gpu => ({ name: "A4000", uuid, total_vram_mb: 16_000, free_vram_mb: 15_000, taken: false, shared: false });
const amount = (cpu_mhz: number, memory_mb: number, vram_mb = 0) => ({ cpu_mhz, memory_mb, vram_mb });

const ROW: Provider = {
  provider: "12D3KooWC8G7JfwSddM9Qczbv3re1ZNyURgf8L6Pe6Tf62CSiTvb", own: true, available: true, hindrance: "", online: true,
  channel: "nunet-test", total: amount(10_000, 16_000, 32_000), onboarded: amount(5000, 8000, 30_000), reserved: amount(500, 1000),
  on_hold: amount(0, 0), free: amount(4500, 7000, 30_000), gpus: [card("GPU-1"), card("GPU-2")], ntx_price: "0.002",
  network: "internet", network_trouble: "", position: 10,
};

let position = 10;
function event(topic: string, data: Record<string, unknown> = {}, key = JOB): LogEvent {
  const kind = topic.split(".")[0];
  return { id: `e${++position}`, source: "dms", type: `io.nunet.dms.${topic}.v1`, subject: `${kind}-${key}`, time: "", position, streamversion: 1, hash: "", dataschema: "", data };
}

const accepted = (cpu_mhz: number, memory_mb: number, more: Record<string, unknown> = {}, vram_mb = 0) =>
  event("deployment.accepted", { reserved: amount(cpu_mhz, memory_mb, vram_mb), ...more });
const after = (...events: LogEvent[]): Provider => moved(ROW, 10, [], events);

describe("the bars move with the events", () => {
  test("a job that is taken reserves, and gives back when it ends", () => {
    const taken = accepted(700, 2000);
    expect(after(taken)).toMatchObject({ reserved: amount(1200, 3000), free: amount(3800, 5000, 30_000) });
    for (const end of ["deployment.container_exited", "deployment.failed", "deployment.stopped"]) {
      const ended = after(taken, event(end, { exit_code: 0 }));
      expect(ended).toMatchObject({ reserved: ROW.reserved, free: ROW.free });
    }
  });

  test("an event that the answer has already moves nothing, nor one that is told twice", () => {
    const taken = accepted(700, 2000);
    expect(moved(ROW, taken.position, [], [taken])).toEqual(ROW);
    expect(after(taken, accepted(700, 2000)).reserved).toEqual(amount(1200, 3000));
  });

  test("a job that began before the page was opened gives back what it asked for", () => {
    const before = { job_id: OTHER, status: "running", cpu_mhz: 500, memory_mb: 1000, vram_mb: 0 } as Deployment;
    const ended = moved(ROW, 10, [before], [event("deployment.container_exited", {}, OTHER)]);
    expect(ended.reserved).toEqual(amount(0, 0));
    expect(seenBefore(seenBefore([], [before]), [])).toEqual([before]); // also when the list has dropped it already
  });

  test("a job that the list has before the bars' answer counts once", () => {
    const listed = { job_id: JOB, status: "accepted", cpu_mhz: 700, memory_mb: 2000, vram_mb: 0 } as Deployment;
    expect(moved(ROW, 10, [listed], [accepted(700, 2000)]).reserved).toEqual(amount(1200, 3000));
  });

  test("the end of a job that holds nothing moves nothing", () => expect(after(event("deployment.failed", {}, OTHER))).toEqual(ROW));

  test("a place on hold is kept until it is paid for, or given up", () => {
    const placed = event("hold.placed", { reserved: amount(300, 400) });
    expect(after(placed).on_hold).toEqual(amount(300, 400));
    expect(after(placed, event("hold.ended")).on_hold).toEqual(amount(0, 0));
    expect(after(placed, accepted(300, 400))).toMatchObject({ on_hold: amount(0, 0), reserved: amount(800, 1400) });
  });

  test("a GPU goes to one job as a whole, or to several in parts", () => {
    const alone = after(accepted(0, 0, { gpu_uuids: ["GPU-1"] }, 15_000)).gpus;
    expect(alone[0]).toMatchObject({ taken: true, free_vram_mb: 0 });
    expect(alone[1]).toEqual(card("GPU-2"));
    const sharing = accepted(0, 0, { gpu_uuids: ["GPU-1"], gpus_shared: true }, 4000);
    expect(after(sharing).gpus[0]).toMatchObject({ taken: false, shared: true, free_vram_mb: 11_000 });
    expect(after(sharing, event("deployment.container_exited")).gpus[0]).toEqual(card("GPU-1"));
  });

  test("the owner's changes show: resources, price, switch, hindrance, offboarding", () => {
    expect(after(event("device.resources_changed", { cpu_mhz: 2000, memory_mb: 4000, ntx_price: "0.5" }, "d"))).toMatchObject({
      onboarded: amount(2000, 4000, 30_000), free: amount(1500, 3000, 30_000), ntx_price: "0.5",
    });
    expect(after(event("device.availability_changed", { available: false }, "d"))).toMatchObject({ available: false, online: false });
    const hindered = event("device.hindered", { reason: "Docker does not answer" }, "d");
    expect(after(hindered)).toMatchObject({ available: true, online: false, hindrance: "Docker does not answer" });
    expect(after(hindered, event("device.unhindered", {}, "d"))).toMatchObject({ online: true, hindrance: "" });
    expect(onboarded(after(event("device.offboarded", {}, "d")))).toBe(false);
  });

  test("onboarding anew keeps what jobs hold", () => {
    const again = event("device.onboarded", { total: { cpu_mhz: 10_000, memory_mb: 16_000, cores: 4, gpus: [] }, offered: amount(9000, 9000), channel: "nunet-team", ntx_price: "1", available: true }, "d");
    expect(after(again)).toMatchObject({ onboarded: amount(9000, 9000), reserved: amount(500, 1000), free: amount(8500, 8000), channel: "nunet-team", gpus: [] });
  });
});

describe("a bar", () => {
  const values = (row: Provider) => Object.fromEntries(resourceBar("CPU", row, "cpu_mhz").segments.map(({ name, value }) => [name, value]));

  test("has parts that add up to what the machine has", () => {
    expect(values({ ...ROW, on_hold: amount(200, 0) })).toEqual({ reserved: 500, "on hold": 200, free: 4300, "not offered": 5000 });
  });

  test("never has more on hold than fits, nor less than nothing free", () => {
    expect(values({ ...ROW, on_hold: amount(9000, 0) })).toEqual({ reserved: 500, "on hold": 4500, free: 0, "not offered": 5000 });
    expect(values({ ...ROW, onboarded: amount(0, 0) })).toEqual({ reserved: 500, "on hold": 0, free: 0, "not offered": 9500 });
  });

  test("of a GPU says who has it", () => {
    expect(gpuBar(card("GPU-1"), 0).segments[0]).toMatchObject({ name: "not offered", value: 1000 });
    expect(gpuBar({ ...card("GPU-1"), taken: true }, 1).segments[0]).toMatchObject({ name: "held by one job", value: 16_000 });
    expect(gpuBar({ ...card("GPU-1"), taken: true }, 0).segments[0]).toMatchObject({ name: "in use outside of the DMS" });
  });
});
