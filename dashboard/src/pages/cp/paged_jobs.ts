/** A list of jobs of any length: only the pages in sight are asked for, and asked for again when something happens. */
import { useEffect, useRef } from "preact/hooks";
import { useSignal, type Signal } from "@preact/signals";
import { ApiError, get } from "../../api/client";
import { moment } from "../../app/router";
import { SparseRows } from "../../domain/sparse_rows";
import { onEvents } from "../../live/live";
import type { Deployment } from "../../api/answers";

const PAGE = 50;
const SETTLE_MS = 250;

export interface PagedJobs {
  total: Signal<number>;
  loaded: Signal<boolean>;
  error: Signal<string>;
  /** Reading it follows what comes. */
  row: (index: number) => Deployment | undefined;
  seen: (first: number, last: number) => void;
}

type Query = Record<string, string>;

export function usePagedJobs(filters: Query): PagedJobs {
  const rows = useRef(new SparseRows<Deployment>(PAGE));
  const [total, loaded, error, version] = [useSignal(0), useSignal(false), useSignal(""), useSignal(0)];
  const sight = useRef<[number, number]>([0, 1]);
  const fetchSeen = useRef<() => void>(() => undefined);
  const query = { ...filters, ...(moment.value && { as_of: moment.value }) };
  useEffect(() => {
    const asked = new AbortController();
    let [loading, timer] = [false, undefined as ReturnType<typeof setTimeout> | undefined];
    rows.current.clear();
    sight.current = [0, 1];
    loaded.value = false;
    const load = async (): Promise<void> => {
      if (loading) return;
      loading = true;
      try {
        for (let page = rows.current.wanted(...sight.current)[0]; page !== undefined; page = rows.current.wanted(...sight.current)[0]) {
          const answer = await get<{ items: Deployment[] }>("/jobs", { ...query, limit: PAGE, offset: page * PAGE }, asked.signal);
          rows.current.put(page, answer.body.items, answer.total);
          [total.value, loaded.value, error.value] = [answer.total, true, ""];
          version.value += 1;
          if (timer === undefined && !stop) stop = moment.value ? () => undefined : onEvents({ after: answer.position, types: ["deployment.*"] }, soon);
        }
      } catch (found) {
        if (!asked.signal.aborted) error.value = found instanceof ApiError ? found.message : String(found);
      } finally {
        loading = false;
      }
    };
    let stop: (() => void) | null = null;
    const soon = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined;
        rows.current.expire();
        void load();
      }, SETTLE_MS);
    };
    fetchSeen.current = () => void load();
    void load();
    return () => {
      asked.abort();
      clearTimeout(timer);
      stop?.();
    };
  }, [JSON.stringify(query)]);
  const seen = (first: number, last: number): void => {
    sight.current = [first, Math.max(first + 1, last)];
    fetchSeen.current();
  };
  const row = (index: number): Deployment | undefined => (version.value >= 0 ? rows.current.get(index) : undefined);
  return { total, loaded, error, row, seen };
}
