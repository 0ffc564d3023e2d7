/** What changed between two moments, in sentences. Pure. */
import type { Difference } from "../../api/answers";
import { cpu, duration, memory, ntx, short, whole } from "../../app/format";

type Row = Readonly<Record<string, unknown>>;

/** before, after: rows of a view. */
export type Changed = Omit<Difference["jobs"][number], "before" | "after"> & { before: Row | null; after: Row | null };
export type Diff = Omit<Difference, "jobs" | "capacity"> & { jobs: Changed[]; capacity: Changed[] };

/** page: where there is more of it; empty: nowhere. details: one after the other. */
export interface Told {
  page: string;
  title: string;
  details: string[];
}

/** Follow from others, or are of no interest by themselves. */
const LEFT_OUT = new Set(["position", "timeline", "log_sha256", "job_id", "provider", "own", "held", "duration_seconds", "lines_before"]);
const MOST_DETAILS = 12;

export const jobsTold = ({ jobs }: Diff): Told[] => jobs.map(jobTold);
export const capacityTold = ({ capacity }: Diff): Told[] => capacity.map(providerTold).filter(({ page, details }) => page !== "" || details.length > 0);

function jobTold({ key, before, after }: Changed): Told {
  const row = after ?? before ?? {};
  const page = `/${row["role"] === "compute provider" ? "cp" : "sp"}/jobs/${key}`;
  const name = `${text(row["image"]) || text(row["service_type"]) || "job"} (${short(key)})`;
  if (!before) return { page, title: `New job ${name}: ${text(row["status"])}`, details: [`${row["role"] === "compute provider" ? "for" : "on"} ${short(text(row["peer"])) || "nobody yet"}, price ${ntx(text(row["price"]) || 0)}`] };
  if (!after) return { page, title: `Job ${name} was not there any more`, details: [] };
  const status = before["status"] === after["status"] ? `still ${text(after["status"])}` : `${text(before["status"])} → ${text(after["status"])}`;
  return { page, title: `Job ${name}: ${status}`, details: changes(before, after, ["status"]) };
}

function providerTold({ key, before, after }: Changed): Told {
  const row = after ?? before ?? {};
  const name = row["own"] === true || key === "self" ? "This machine" : `Provider ${short(key)}`;
  const page = before && after ? "" : "/peers";
  if (!before) return { page, title: `${name} is known`, details: [] };
  if (!after) return { page, title: `${name} is not known any more`, details: [] };
  return { page, title: name, details: changes(before, after, []) };
}

function changes(before: Row, after: Row, told: readonly string[]): string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => !LEFT_OUT.has(name) && !told.includes(name));
  const found = names.flatMap((name) => change(name, before[name], after[name]));
  return found.length > MOST_DETAILS ? [...found.slice(0, MOST_DETAILS), `and ${whole(found.length - MOST_DETAILS)} more`] : found;
}

function change(name: string, before: unknown, after: unknown): string[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  const label = name.replace(/_(mhz|mb|at|ntx)$/, "").replaceAll("_", " ");
  if (isRow(before) && isRow(after) && !Array.isArray(after))
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((part) => change(part, before[part], after[part]).map((words) => `${label} ${words}`));
  if (Array.isArray(before) || Array.isArray(after) || isRow(before) || isRow(after)) return [`${label} changed`];
  if (typeof after === "boolean") return [after ? `${label}: yes` : `${label}: no longer`];
  return [isNothing(before) ? `${label}: ${shown(name, after)}` : `${label}: ${shown(name, before)} → ${shown(name, after)}`];
}

function shown(name: string, value: unknown): string {
  if (isNothing(value)) return "nothing";
  if (name === "price" || name === "cost" || name === "ntx_price") return ntx(text(value));
  if (name === "peer") return short(text(value));
  if (name.endsWith("_at")) return new Date(text(value)).toLocaleString("en-GB");
  if (typeof value !== "number") return text(value);
  if (/mhz$|^cpu$/.test(name)) return cpu(value);
  if (/mb$|^ram$|^memory$|^vram$/.test(name)) return memory(value);
  return name.endsWith("_seconds") ? duration(value) : whole(value);
}

const isNothing = (value: unknown): boolean => value === undefined || value === null || value === "";
const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null;
const text = (value: unknown): string => (typeof value === "string" || typeof value === "number" ? String(value) : "");
