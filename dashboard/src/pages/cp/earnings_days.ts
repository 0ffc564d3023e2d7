/** What was earned, as `/earnings` groups it, in the shape of charts and periods. */

import type { Earned } from "../../api/answers";

export type By = "day" | "peer" | "job" | "gpu";

/** Where the API has what this machine earned, in such groups. */
export const earningsBy = (by: By): { path: string; query: Record<string, string> } =>
  by === "gpu" ? { path: "/earnings/gpus", query: {} } : { path: "/earnings", query: { by, role: "compute provider" } };

export const NOTHING_EARNED: Earned = { group: "", jobs: 0, earned_ntx: "0", claimed_ntx: "0", paid_ntx: "0", to_claim_ntx: "0", spent_ntx: "0" };

/** When the viewer's own day began, as the API takes a time. */
export function midnight(nowMs: number): string {
  const day = new Date(nowMs);
  day.setHours(0, 0, 0, 0);
  return day.toISOString();
}

const DAY_MS = 86_400_000;

/** When the UTC day so many days ago began; today's is the last of them. 0: since ever. nowMs: null: not known yet. */
export function sinceDays(days: number, nowMs: number | null): string {
  return days === 0 || nowMs === null ? "" : new Date(Math.floor(nowMs / DAY_MS - days + 1) * DAY_MS).toISOString();
}

/** A bar for each day from the first to the last, also for those without a job. times: Unix seconds of their beginning. */
export function daily(items: readonly Earned[]): { times: number[]; earned: number[] } {
  const byDay = new Map(items.map(({ group, earned_ntx }) => [group, Number(earned_ntx)]));
  const days = [...byDay.keys()].sort();
  const [first, last] = [Date.parse(`${days[0]}T00:00Z`), Date.parse(`${days.at(-1)}T00:00Z`)];
  const [times, earned]: [number[], number[]] = [[], []];
  for (let day = first; day <= last; day += DAY_MS) {
    times.push(day / 1000);
    earned.push(byDay.get(new Date(day).toISOString().slice(0, 10)) ?? 0);
  }
  return { times, earned };
}
