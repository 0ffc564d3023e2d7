/** Which GPU earned what: the jobs' amounts, by the cards that the event says which took them. */
import type { LogEvent } from "../../live/protocol";
import type { Earned } from "../../api/answers";
import { amountText, units } from "./rewards";

export const MOST_JOBS = 10_000;
export const WITHOUT_GPU = "";

/** Job id -> uuids, of jobs with GPUs alone. */
export type CardsOfJobs = ReadonlyMap<string, readonly string[]>;

export function withCards(cards: CardsOfJobs, { subject, data }: LogEvent): CardsOfJobs {
  const uuids = data["gpu_uuids"] as string[] | undefined;
  if (!uuids?.length) return cards;
  return new Map([...cards, [subject.replace(/^deployment-/, ""), uuids] as const].slice(-MOST_JOBS));
}

export interface GpuEarned {
  gpu: string;
  jobs: number;
  /** NTX, decimal text. */
  earned: string;
}

/** items: by job. What does not divide among a job's cards goes to the first of them. */
export function earnedByGpu(items: readonly Earned[], cards: CardsOfJobs): GpuEarned[] {
  const sums = new Map<string, { jobs: number; units: bigint }>();
  for (const { group, earned_ntx } of items) {
    const gpus = cards.get(group) ?? [WITHOUT_GPU];
    const [whole, count] = [units(earned_ntx) ?? 0n, BigInt(gpus.length)];
    for (const [index, gpu] of gpus.entries()) {
      const before = sums.get(gpu) ?? { jobs: 0, units: 0n };
      sums.set(gpu, { jobs: before.jobs + 1, units: before.units + whole / count + (index === 0 ? whole % count : 0n) });
    }
  }
  const rows = [...sums].map(([gpu, sum]) => ({ gpu, jobs: sum.jobs, earned: amountText(sum.units), units: sum.units }));
  return rows.sort((one, other) => (one.units === other.units ? one.gpu.localeCompare(other.gpu) : one.units > other.units ? -1 : 1)).map(({ gpu, jobs, earned }) => ({ gpu, jobs, earned }));
}
