/** A job's row and its events, following the live stream: each event is there at once, and whole a moment later. */
import { signal } from "@preact/signals";
import { failure, get } from "../../api/client";
import { Pace } from "../../app/pace";
import { useShown } from "../../app/shown";
import { jobOf, patched } from "../../domain/job_patch";
import type { Happening } from "../../domain/job_steps";
import { onEvents, onReturn } from "../../live/live";
import { topicOf, type LogEvent } from "../../live/protocol";
import type { JobEvent, JobRow } from "../../api/answers";

const PAGE_EVENTS = 1000;
/** Of a job whose provider comes and goes for ever. */
const MOST_EVENTS = 20_000;
const SETTLE_MS = 60;

export class JobEvents {
  readonly job = signal<JobRow | null>(null);
  readonly events = signal<readonly JobEvent[]>([]);
  readonly error = signal("");
  /** The job and its events were here once. */
  readonly ready = signal(false);
  private readonly asked = new AbortController();
  private stop: (() => void) | null = null;
  private readonly unwatch = onReturn(() => {
    this.pace.returned();
    clearTimeout(this.timer);
    this.timer = undefined;
    this.soon();
  });
  private readonly pace = new Pace(SETTLE_MS);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking = false;
  private dirty = false;
  /** Of the log: all of the job's events up to it are here whole. */
  private reached = 0;
  /** The stream could not go on: what is here may be no part of the log any more, as of one that was restored. */
  private isLost = false;

  constructor(private readonly jobId: string, private readonly at: string) {
    void this.load();
  }

  close(): void {
    this.asked.abort();
    clearTimeout(this.timer);
    this.stop?.();
    this.unwatch();
  }

  reload(): void {
    void this.load();
  }

  private async load(): Promise<void> {
    if (this.asking) {
      this.dirty = true;
      return;
    }
    clearTimeout(this.timer);
    [this.asking, this.dirty, this.timer] = [true, false, undefined];
    const began = performance.now();
    try {
      const path = `/jobs/${encodeURIComponent(this.jobId)}`;
      const { body, position } = await get<JobRow>(path, this.at ? { as_of: this.at } : {}, this.asked.signal);
      if (this.asked.signal.aborted) return; // closed in the moment of the answer: nothing may be followed any more
      if (this.isLost) this.forget();
      if (!this.stop && !this.at) this.listen(position);
      if (body.position >= (this.job.peek()?.position ?? 0)) this.job.value = body;
      await this.readHistory(`${path}/history`, this.at ? position : Number.POSITIVE_INFINITY);
      this.pace.answered(performance.now() - began);
      [this.error.value, this.ready.value] = ["", true];
    } catch (error) {
      if (this.asked.signal.aborted) return;
      if (this.pace.failed(error)) this.dirty = true;
      this.error.value = failure(error);
    } finally {
      this.asking = false;
    }
    if (this.dirty) this.soon();
  }

  private forget(): void {
    [this.isLost, this.reached, this.job.value, this.events.value] = [false, 0, null, []];
  }

  /** until: a position; what came after it is not shown. */
  private async readHistory(path: string, until: number): Promise<void> {
    let after = this.reached;
    for (;;) {
      const { body } = await get<{ items: JobEvent[]; next_token: string }>(path, { after, limit: PAGE_EVENTS }, this.asked.signal);
      const whole = this.events.peek().filter(({ position }) => position <= after);
      const newest = body.items.at(-1)?.position ?? after;
      const hasty = this.events.peek().filter(({ position }) => position > newest);
      this.events.value = [...whole, ...body.items, ...hasty].filter(({ position }) => position <= until).slice(-MOST_EVENTS);
      this.reached = after = newest;
      if (!body.next_token) return;
    }
  }

  private listen(after: number): void {
    const failed = () => {
      [this.stop, this.isLost] = [null, true];
      this.soon();
    };
    this.stop = onEvents({ after, jobId: this.jobId, failed }, (event) => this.take(event));
  }

  private take(event: LogEvent): void {
    if (jobOf(event) !== this.jobId || event.position <= (this.events.peek().at(-1)?.position ?? 0)) return;
    const job = this.job.peek();
    if (job) this.job.value = patched(job, event);
    this.events.value = [...this.events.peek(), asHistoryHasIt(event)];
    this.soon();
  }

  private soon(): void {
    this.dirty = true;
    if (!this.asking && this.timer === undefined && !this.asked.signal.aborted) this.timer = setTimeout(() => void this.load(), this.pace.pauseMs);
  }
}

export const useJobEvents = (jobId: string, at: string): JobEvents | null => useShown(() => new JobEvents(jobId, at), JSON.stringify([jobId, at])).value;

/** Without what is sealed of a person, until the history is asked. */
const asHistoryHasIt = (event: LogEvent): JobEvent => ({
  position: event.position, time: event.time, topic: topicOf(event), schema_version: Number(event.type.split(".v").at(-1)), aggregate_id: event.subject,
  aggregate_version: event.streamversion, event_id: event.id, causation_id: event.causationid ?? "", correlation_id: event.correlationid ?? "", traceparent: "",
  hash: event.hash, data: event.data,
});

/** Of the job itself; a deployment's, of a job that runs on the same node, are not steps of it. */
export const happenings = (events: readonly JobEvent[]): Happening[] => events.filter(({ topic }) => topic.startsWith("job.")).map(({ position, time, topic, data }) => ({ position, time, topic, data }));
