/** A machine's capacity as parts of bars that add up to what it has. */
import type { Segment } from "../../components/parts";
import type { Gpu, Provider } from "../../api/answers";

export interface CapacityBar {
  label: string;
  total: number;
  segments: Segment[];
}

/** Of CPU (MHz) or memory (MB). What is held and kept may be more than is offered: then nothing is free. */
export function resourceBar(label: string, row: Provider, of: "cpu_mhz" | "memory_mb"): CapacityBar {
  const [total, offered, reserved] = [row.total[of], row.onboarded[of], Math.max(0, row.reserved[of])];
  const held = Math.min(Math.max(0, row.on_hold[of]), Math.max(0, offered - reserved));
  const free = Math.max(0, offered - reserved - held);
  return {
    label,
    total,
    segments: [
      { name: "reserved", value: reserved, tone: "reserved" },
      { name: "on hold", value: held, tone: "held" },
      { name: "free", value: free, tone: "free" },
      { name: "not offered", value: Math.max(0, total - reserved - held - free), tone: "rest" },
    ],
  };
}

/** Of a GPU's memory, in MB. taken: by a job alone, or by a program outside of the DMS. */
export function gpuBar(gpu: Gpu, jobs: number): CapacityBar {
  const free = gpu.taken ? 0 : gpu.free_vram_mb;
  const rest = gpu.total_vram_mb - free;
  const ofJobs = jobs > 0 || gpu.shared;
  const used: Segment = ofJobs
    ? { name: `held by ${jobs === 1 ? "one job" : `${jobs} jobs`}`, value: rest, tone: "reserved" }
    : { name: gpu.taken ? "in use outside of the DMS" : "not offered", value: rest, tone: "rest" };
  return { label: gpu.name, total: gpu.total_vram_mb, segments: [used, { name: gpu.shared ? "free to jobs that share" : "free", value: free, tone: "free" }] };
}
