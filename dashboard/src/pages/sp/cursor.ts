/** The row that keys act on: a job, wherever news moved it to. Pure. */
import type { JobRow } from "../../api/answers";
import type { SparseRows } from "../../domain/sparse_rows";

export interface Cursor {
  /** Empty: its row was not loaded. */
  jobId: string;
  /** Where it stood when it was put there: its place where the job is not in the list any more. */
  index: number;
}

export const NOWHERE: Cursor = { jobId: "", index: -1 };

type Rows = Pick<SparseRows<JobRow>, "get" | "indexOf" | "total">;

export function placeOf({ jobId, index }: Cursor, rows: Rows): number {
  const found = jobId ? rows.indexOf(jobId) : -1;
  return found >= 0 ? found : index;
}

export function moved(cursor: Cursor, by: number, rows: Rows): Cursor {
  const index = Math.max(0, Math.min(rows.total - 1, placeOf(cursor, rows) + by));
  return { jobId: rows.get(index)?.job_id ?? "", index };
}
