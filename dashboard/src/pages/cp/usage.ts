/** What the machine and its jobs used in the last hour: the answer of `/device/usage`, moved on by each new sample. */
import type { DeviceUsage, Sample, UsageNews } from "../../api/answers";

const KEPT_MS = 3_600_000;
const MOST_SAMPLES = 400;
const MOST_JOBS = 200;

/** machine and jobs: oldest first. */
export interface Usage {
  cores: number;
  memoryMb: number;
  machine: readonly Sample[];
  jobs: ReadonlyMap<string, readonly Sample[]>;
}

export const NO_USAGE: Usage = { cores: 0, memoryMb: 0, machine: [], jobs: new Map() };

/** What came live while the answer was on its way stays. */
export function usageOf(answer: DeviceUsage, before: Usage = NO_USAGE): Usage {
  const jobs = new Map(answer.jobs.map(({ job_id, samples }) => [job_id, samples as readonly Sample[]]));
  for (const [jobId, samples] of before.jobs) jobs.set(jobId, joined(jobs.get(jobId) ?? [], samples));
  return { cores: answer.cores, memoryMb: answer.memory_mb, machine: joined(answer.machine, before.machine), jobs };
}

export function withSample(usage: Usage, { job_id, sample }: UsageNews): Usage {
  if (job_id === null) return { ...usage, machine: joined(usage.machine, [sample]) };
  const jobs = new Map(usage.jobs);
  jobs.delete(job_id);
  jobs.set(job_id, joined(usage.jobs.get(job_id) ?? [], [sample]));
  for (const oldest of [...jobs.keys()].slice(0, Math.max(0, jobs.size - MOST_JOBS))) jobs.delete(oldest);
  return { ...usage, jobs };
}

/** In the order of time, each once, of the last hour. */
function joined(before: readonly Sample[], news: readonly Sample[]): readonly Sample[] {
  const newest = before.at(-1)?.time ?? "";
  const all = news.every(({ time }) => time > newest) ? [...before, ...news] : merged(before, news);
  const oldest = Date.parse(all.at(-1)?.time ?? "") - KEPT_MS;
  return all.filter(({ time }) => Date.parse(time) >= oldest).slice(-MOST_SAMPLES);
}

function merged(before: readonly Sample[], news: readonly Sample[]): Sample[] {
  const byTime = new Map([...before, ...news].map((sample) => [sample.time, sample]));
  return [...byTime.values()].sort((one, other) => (one.time < other.time ? -1 : 1));
}

/** Lines of a chart. times: Unix seconds; a pause of more than a minute is a gap. */
export interface Lines {
  times: number[];
  cores: (number | null)[];
  memoryMb: (number | null)[];
}

const GAP_SECONDS = 60;

export function linesOf(samples: readonly Sample[]): Lines {
  const lines: Lines = { times: [], cores: [], memoryMb: [] };
  for (const { time, cpu_cores, memory_mb } of samples) {
    const at = Date.parse(time) / 1000;
    const before = lines.times.at(-1);
    if (before !== undefined && at - before > GAP_SECONDS) push(lines, before + 1, null, null);
    push(lines, at, cpu_cores, memory_mb);
  }
  return lines;
}

function push(lines: Lines, time: number, cores: number | null, memoryMb: number | null): void {
  lines.times.push(time);
  lines.cores.push(cores);
  lines.memoryMb.push(memoryMb);
}

/** uuid -> lines of one card. */
export function gpuLines(samples: readonly Sample[]): Map<string, { times: number[]; percent: (number | null)[]; memoryMb: number[] }> {
  const found = new Map<string, { times: number[]; percent: (number | null)[]; memoryMb: number[] }>();
  for (const { time, gpus } of samples)
    for (const { uuid, utilization_percent, memory_mb } of gpus) {
      const lines = found.get(uuid) ?? { times: [], percent: [], memoryMb: [] };
      lines.times.push(Date.parse(time) / 1000);
      lines.percent.push(utilization_percent);
      lines.memoryMb.push(memory_mb);
      found.set(uuid, lines);
    }
  return found;
}
