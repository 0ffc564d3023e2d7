/** Which jobs are selected: ids, so that neither news nor a reload makes a selection grow. */
import { useRef } from "preact/hooks";
import { useSignal, type Signal } from "@preact/signals";
import { get } from "../../api/client";
import type { JobQuery, JobRows } from "../../app/job_rows";
import type { SparseRows } from "../../domain/sparse_rows";
import type { JobRow } from "../../api/answers";

/** As many as are stopped at once. */
export const MOST_SELECTED = 1000;

export interface Selection {
  /** Id -> image. */
  ids: Signal<ReadonlyMap<string, string>>;
  /** range: also those between the last one and this one, as far as they are loaded. */
  toggle: (jobId: string, range: boolean) => void;
  clear: () => void;
  /** Those that fit the query now; how many there are, where that is more than can be selected. */
  addAll: (query: JobQuery) => Promise<number>;
}

export function useSelection(rows: () => JobRows | null): Selection {
  const ids = useSignal<ReadonlyMap<string, string>>(new Map());
  const anchor = useRef("");
  const toggle = (jobId: string, range: boolean) => {
    const list = rows()?.list;
    if (!list) return;
    ids.value = toggled(ids.peek(), list, jobId, range ? anchor.current : "");
    anchor.current = jobId;
  };
  const addAll = async (query: JobQuery) => {
    const { body, total } = await get<{ items: JobRow[] }>("/jobs", { ...query, limit: MOST_SELECTED });
    const chosen = new Map(ids.peek());
    for (const row of body.items) change(chosen, row, true);
    ids.value = chosen;
    return total > body.items.length ? total : 0;
  };
  return { ids, toggle, addAll, clear: () => (ids.value = new Map()) };
}

/** anchor: the job where a range begins; empty: none. News may have moved both since they were shown. */
export function toggled(ids: ReadonlyMap<string, string>, list: SparseRows<JobRow>, jobId: string, anchor: string): ReadonlyMap<string, string> {
  const [chosen, on] = [new Map(ids), !ids.has(jobId)];
  const [end, start] = [list.indexOf(jobId), list.indexOf(anchor)];
  const [from, to] = start < 0 ? [end, end] : [Math.min(start, end), Math.max(start, end)];
  if (end >= 0) for (let at = from; at <= to; at++) change(chosen, list.get(at), on);
  return chosen;
}

function change(chosen: Map<string, string>, row: JobRow | undefined, on: boolean): void {
  if (!row) return;
  if (!on) chosen.delete(row.job_id);
  else if (chosen.size < MOST_SELECTED) chosen.set(row.job_id, row.image);
}
