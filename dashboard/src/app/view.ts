/** Views of the API that stay true: a snapshot with its position, then the events after it. */
import { useEffect, useRef } from "preact/hooks";
import { useSignal, type Signal } from "@preact/signals";
import { failure, type Answer } from "../api/client";
import { onEvents, onReturn } from "../live/live";
import type { LogEvent } from "../live/protocol";
import { getTogether } from "./get_together";
import { Pace } from "./pace";
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
  /** Events that may change what is shown; none: asked again only when the DMS was away. */
  types?: string[];
  jobId?: string;
  /** What the answer depends on besides: another one, and it is asked for anew. */
  anewWith?: number;
  /** Not a view of the log, such as the peers: `as_of` means nothing to it. */
  presentOnly?: boolean;
  /** Called for each event at once, before the new answer is there. */
  event?: (event: LogEvent) => void;
  /** Called when the stream can't go on: what came by it may be no part of the log any more, as of one that was restored. */
  lost?: () => void;
}

/** Answered or refused: what is below it can be shown without being pushed down a moment later. */
export const hasCome = (view: View<unknown>): boolean => view.answer.value !== null || view.error.value !== "";

const SETTLE_MS = 120;
const LONGEST_REFUSAL_MS = 10_000;

/**
 * GET of `path`, asked again when one of `types` happens, and when the DMS answers again after it was away. In the past
 * (`?at=`) it is asked once: that does not change. What was shown stays while something newer loads. Where there is no
 * answer, it is asked for again.
 */
export function useView<T>(path: string, options: ViewOptions = {}): View<T> {
  const view: View<T> = { answer: useSignal<Answer<T> | null>(null), error: useSignal(""), loading: useSignal(true), reload: () => undefined };
  const newest = useRef(options);
  newest.current = options;
  const at = options.presentOnly ? "" : moment.value;
  const query = { ...options.query, ...(at && { as_of: at }) };
  const following = useRef<Following<T> | null>(null);
  view.reload = () => following.current?.load();
  useEffect(() => {
    const made = new Following<T>(path, query, at !== "", () => newest.current, view);
    following.current = made;
    made.load();
    return () => made.end();
  }, [path, JSON.stringify([query, options.types, options.jobId, options.anewWith])]);
  return view;
}

/** One question, as long as it is shown. */
export class Following<T> {
  private readonly asked = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isRunning = false;
  private isDirty = false;
  /** The newest event that the next answer has to show. */
  private toShow = 0;
  /** What is asked for by hand follows something that was done: no answer that others asked for will do. */
  private isByHand = false;
  private readonly pace = new Pace(SETTLE_MS);
  /** Doubles with each refusal of the stream, so that what can't be followed is not asked for all the time. */
  private refusalMs = SETTLE_MS;
  private unsubscribe: (() => void) | null = null;
  private readonly unwatch: () => void;

  constructor(
    private readonly path: string,
    private readonly query: NonNullable<ViewOptions["query"]>,
    private readonly isPast: boolean,
    private readonly options: () => ViewOptions,
    private readonly view: View<T>,
  ) {
    this.unwatch = onReturn(() => {
      this.pace.returned();
      this.unschedule();
      if (!this.isPast || this.view.error.peek()) this.soon();
    });
  }

  /** Now, or right after the answer that is on its way. */
  load(): void {
    this.isByHand = true;
    this.begin();
  }

  end(): void {
    this.asked.abort();
    clearTimeout(this.timer);
    this.unsubscribe?.();
    this.unwatch();
  }

  private unschedule(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private begin(): void {
    this.unschedule();
    this.isDirty = true;
    if (!this.isRunning) void this.run();
  }

  private soon(): void {
    this.isDirty = true;
    if (!this.isRunning) this.timer ??= setTimeout(() => this.begin(), Math.max(this.refusalMs, this.pace.pauseMs));
  }

  private ask(): Promise<Answer<T>> {
    const toShow = this.isByHand ? 0 : this.toShow;
    [this.toShow, this.isByHand] = [0, false];
    return getTogether<T>(this.path, this.query, toShow, this.asked.signal);
  }

  private async run(): Promise<void> {
    const { view, asked } = this;
    const began = performance.now();
    [this.isRunning, this.isDirty, view.loading.value] = [true, false, true];
    try {
      const answer = await this.ask();
      if (asked.signal.aborted) return;
      this.pace.answered(performance.now() - began);
      view.answer.value = answer;
      view.error.value = "";
      this.listen(answer.position);
    } catch (error) {
      if (asked.signal.aborted) return;
      if (this.pace.failed(error)) this.isDirty = true;
      view.error.value = failure(error);
    } finally {
      this.isRunning = false;
      if (!asked.signal.aborted) {
        view.loading.value = false;
        if (this.isDirty) this.soon();
      }
    }
  }

  private listen(position: number): void {
    const { types, jobId } = this.options();
    if (this.unsubscribe || this.isPast || !types) return;
    const failed = () => {
      [this.unsubscribe, this.toShow] = [null, 0];
      this.options().lost?.();
      this.refusalMs = Math.min(2 * this.refusalMs, LONGEST_REFUSAL_MS);
      this.soon();
    };
    // An answer that names no position is followed from what is newest.
    this.unsubscribe = onEvents({ ...(position > 0 && { after: position }), types, ...(jobId && { jobId }), failed }, (event) => {
      this.refusalMs = SETTLE_MS;
      this.options().event?.(event);
      if (event.position <= (this.view.answer.peek()?.position ?? 0)) return;
      this.toShow = event.position;
      this.soon();
    });
  }
}
