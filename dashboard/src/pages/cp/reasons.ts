/** Whether jobs are taken, and if not, why, and what to do about it. */
import { onboarded } from "./capacity";
import type { DeviceStatus, Provider } from "../../api/answers";

export interface Taking {
  taking: boolean;
  reasons: string[];
  /** What is worth knowing though jobs are taken. */
  remarks: string[];
}

/** A status that says of the owner's switch what the row, which events move, no longer says is older than the row. */
export function takingJobs(row: Provider, status: DeviceStatus | null): Taking {
  const current = status?.accepting !== undefined && status.online === row.available;
  const reasons = current ? (status.accepting ? [] : told(status)) : ownReasons(row);
  const remarks = row.network_trouble ? [`Jobs get no network: ${row.network_trouble}`] : [];
  return { taking: reasons.length === 0 && onboarded(row), reasons: [...new Set(reasons)], remarks };
}

function ownReasons(row: Provider): string[] {
  if (!onboarded(row)) return ["This machine is not onboarded: it offers nothing."];
  return [
    ...(row.available ? [] : ["It is switched offline: no new job is taken until it is switched online."]),
    ...(row.hindrance ? [row.hindrance] : []),
    ...full(row),
  ];
}

/** Without CPU or memory there is room for no job, however small. */
function full(row: Provider): string[] {
  const spent = [...(row.free.cpu_mhz <= 0 ? ["CPU"] : []), ...(row.free.memory_mb <= 0 ? ["memory"] : [])];
  return spent.length ? [`All ${spent.join(" and ")} on offer is reserved by running jobs.`] : [];
}

function told(status: DeviceStatus): string[] {
  const said = (status.reasons ?? []).map(({ reason }) => reason);
  return said.length ? said : [status.hindrance || "The DMS takes no job just now; its log says why."];
}
