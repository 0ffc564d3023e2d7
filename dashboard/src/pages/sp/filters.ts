/** The list's filters as the address has them, and as the API takes them. */
import { queryValue, searched } from "../../app/router";
import { shownMs } from "../../components/history/past";
import { OPEN } from "../../domain/job_now";
import type { JobQuery } from "../../app/job_rows";

/** States that belong together for who looks at them. */
export const GROUPS: readonly { name: string; statuses: readonly string[]; shown: string }[] = [
  { name: "running", statuses: ["running"], shown: "running" },
  { name: "waiting", statuses: OPEN.filter((status) => status !== "running"), shown: "awaiting" },
  { name: "completed", statuses: ["completed"], shown: "completed" },
  { name: "failed", statuses: ["failed"], shown: "failed" },
  { name: "expired", statuses: ["expired"], shown: "expired" },
];

export const PERIODS: readonly [value: string, name: string, hours: number][] = [
  ["", "any time", 0], ["1h", "last hour", 1], ["24h", "last 24 hours", 24], ["7d", "last 7 days", 168], ["30d", "last 30 days", 720],
];

export const ORDERS: readonly [value: string, name: string][] = [
  ["", "newest first"], ["requested_at.asc", "oldest first"], ["ended_at.desc", "ended last"], ["price.desc", "dearest first"], ["price.asc", "cheapest first"], ["status.asc", "by state"],
];

const ROLE = "service provider";
/** So that a period does not begin anew with each look at the clock. */
const STEP_MS = 60_000;

/** The time that is shown, where a filter depends on it; 0: not known yet, or of no matter. */
export const clock = (): number => (queryValue("within") && shownMs.value) || 0;

/** Without the state: for the counts beside each state. */
export function wantedOfAnyStatus(nowMs: number): JobQuery {
  const hours = PERIODS.find(([value]) => value === queryValue("within"))?.[2] ?? 0;
  const since = hours && nowMs ? new Date(Math.floor(nowMs / STEP_MS) * STEP_MS - hours * 3_600_000).toISOString() : "";
  return filled({ role: ROLE, peer: queryValue("peer"), q: searched(), since });
}

export function wanted(nowMs: number): JobQuery {
  const [sort = "", order = ""] = queryValue("order").split(".");
  return filled({ ...wantedOfAnyStatus(nowMs), status: queryValue("status"), sort, order });
}

export const all: JobQuery = { role: ROLE };

export const areFiltered = (): boolean => searched() !== "" || ["status", "peer", "within"].some((name) => queryValue(name) !== "");

export const CLEARED = { status: "", peer: "", q: "", within: "" };

/** Of the states that are filtered for, those that a job can be stopped in. */
export const stoppable = (status: string): string => OPEN.filter((one) => !status || status.split(",").includes(one)).join(",");

const filled = (query: JobQuery): JobQuery => Object.fromEntries(Object.entries(query).filter(([, value]) => value !== ""));
