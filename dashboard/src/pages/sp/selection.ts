/** Which jobs are selected: ids, so that neither news nor a reload makes a selection grow. */
import { useSignal, type Signal } from "@preact/signals";
import { get } from "../../api/client";
import type { JobQuery, JobRows } from "../../app/job_rows";
import type { JobRow } from "../../api/answers";

/** As many as are stopped at once. */
export const MOST_SELECTED = 1000;

export interface Selection {
  /** Id -> image. */
  ids: Signal<ReadonlyMap<string, string>>;
  /** range: also those between the last one and this one, as far as they are loaded. */
  toggle: (index: number, range: boolean) => void;
  clear: () => void;
  /** Those that fit the query now; how many there are, where that is more than can be selected. */
  addAll: (query: JobQuery) => Promise<number>;
}

export function useSelection(rows: () => JobRows | null): Selection {
  const ids = useSignal<ReadonlyMap<string, string>>(new Map());
  const anchor = useSignal(-1);
  const toggle = (index: number, range: boolean) => {
    const list = rows()?.list;
    const row = list?.get(index);
    if (!list || !row) return;
    const chosen = new Map(ids.peek());
    const on = !chosen.has(row.job_id);
    const [from, to] = range && anchor.peek() >= 0 ? [Math.min(anchor.peek(), index), Math.max(anchor.peek(), index)] : [index, index];
    for (let at = from; at <= to; at++) change(chosen, list.get(at), on);
    anchor.value = index;
    ids.value = chosen;
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

function change(chosen: Map<string, string>, row: JobRow | undefined, on: boolean): void {
  if (!row) return;
  if (!on) chosen.delete(row.job_id);
  else if (chosen.size < MOST_SELECTED) chosen.set(row.job_id, row.image);
}
