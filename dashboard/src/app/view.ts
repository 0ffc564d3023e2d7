/** Views of the API that stay true: a snapshot with its position, then the events after it. */
import { useEffect, useRef } from "preact/hooks";
import { signal, useSignal, type Signal } from "@preact/signals";
import { ApiError, get, type Answer } from "../api/client";
import { onEvents } from "../live/live";
import type { LogEvent } from "../live/protocol";
import { moment } from "./router";

/** What is shown, why it can't be had, and whether something newer is on its way. */
export interface View<T> {
  answer: Signal<Answer<T> | null>;
  error: Signal<string>;
  loading: Signal<boolean>;
  reload: () => void;
}

export interface ViewOptions {
  query?: Record<string, string | number | boolean | readonly string[] | null | undefined>;
  /** Events that may change what is shown; none: never asked again by itself. */
  types?: string[];
  jobId?: string;
  /** Not a view of the log, such as the peers: `as_of` means nothing to it. */
  presentOnly?: boolean;
  /** Called for each event at once, before the new answer is there. */
  event?: (event: LogEvent) => void;
}

/** The shortest time between two answers; events in between lead to one. */
const SETTLE_MS = 120;

/**
 * GET of `path`, asked again when one of `types` happens. In the past (`?at=`) it is asked once: that does not change. What
 * was shown stays while something newer loads.
 */
export function useView<T>(path: string, options: ViewOptions = {}): View<T> {
  const view: View<T> = { answer: useSignal<Answer<T> | null>(null), error: useSignal(""), loading: useSignal(true), reload: () => undefined };
  const take = useRef(options.event);
  take.current = options.event;
  const at = options.presentOnly ? "" : moment.value;
  const query = { ...options.query, ...(at && { as_of: at }) };
  const again = useRef<() => void>(() => undefined);
  view.reload = () => again.current();
  useEffect(() => {
    const asked = new AbortController();
    let [timer, running, dirty, ended, listening]: [ReturnType<typeof setTimeout> | undefined, boolean, boolean, boolean, (() => void) | null] = [undefined, false, false, false, null];
    const soon = () => {
      dirty = true;
      if (!running && timer === undefined) timer = setTimeout(() => void load(), SETTLE_MS);
    };
    const listen = (after: number) => {
      if (listening || at || !options.types) return;
      const wanted = { after, types: options.types, ...(options.jobId && { jobId: options.jobId }), failed: () => { listening = null; soon(); } };
      listening = onEvents(wanted, (event) => {
        take.current?.(event);
        if (event.position > (view.answer.peek()?.position ?? 0)) soon();
      });
    };
    const load = async () => {
      [timer, running, dirty] = [undefined, true, false];
      view.loading.value = true;
      try {
        const answer = await get<T>(path, query, asked.signal);
        if (ended) return;
        view.answer.value = answer;
        view.error.value = "";
        listen(answer.position);
      } catch (error) {
        if (ended) return;
        view.error.value = error instanceof ApiError ? error.message : String(error);
      } finally {
        running = false;
        if (!ended) view.loading.value = false;
        if (dirty && !ended) soon();
      }
    };
    again.current = () => void load();
    void load();
    return () => {
      ended = true;
      asked.abort();
      clearTimeout(timer);
      listening?.();
    };
  }, [path, JSON.stringify(query)]);
  return view;
}

/** Ticks once a second while something shows it: elapsed times, staleness. */
export const now = signal(Date.now());
setInterval(() => (now.value = Date.now()), 1000);
