/** The log as a line of positions with times. Pure. */

import type { Density } from "../../api/answers";

/** Each bucket is a span of time; position: of its first event. */
export type LogSpan = Density;

export interface Bar {
  /** From 0 to 1000, over all positions. */
  x: number;
  width: number;
  /** From 0 to 1: how many events there were in the time, against the busiest one. */
  height: number;
}

/** Spans of the same length in time: the more events in one, the wider and the higher it is. */
export function bars({ first_position, head, buckets }: LogSpan): Bar[] {
  const all = head - first_position + 1;
  const most = Math.max(1, ...buckets.map(({ count }) => count));
  return buckets
    .filter(({ count }) => count > 0)
    .map(({ position, count }) => ({ x: ((position - first_position) / all) * 1000, width: (count / all) * 1000, height: Math.log1p(count) / Math.log1p(most) }));
}

/** That the reader may see: a client sees those of its own jobs alone. */
export const eventsIn = ({ buckets }: LogSpan): number => buckets.reduce((sum, { count }) => sum + count, 0);

/** About when the event at a position was, until the exact time is there. */
export function timeNear({ buckets, last_time }: LogSpan, position: number): string | null {
  const at = buckets.findLastIndex((bucket) => bucket.position <= position && bucket.count > 0);
  const bucket = buckets[at];
  if (!bucket?.time) return last_time;
  const end = Date.parse(buckets.slice(at + 1).find(({ time }) => time)?.time ?? last_time ?? bucket.time);
  const begin = Date.parse(bucket.time);
  return new Date(begin + (end - begin) * Math.min(1, (position - bucket.position) / Math.max(1, bucket.count))).toISOString();
}

const STEPS: Readonly<Record<string, number>> = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -100, PageUp: 100 };

/** Where a key leads to; null: it means nothing here. */
export function stepped(key: string, shift: boolean, position: number, first: number, head: number): number | null {
  if (key === "Home") return first;
  if (key === "End") return head;
  const step = STEPS[key];
  return step === undefined ? null : within(position + step * (shift ? 10 : 1), first, head);
}

export const within = (position: number, first: number, head: number): number => Math.min(Math.max(position, first), head);

/** The address's `at`, where it is a position; null: it is a time, or nothing. */
export const positionIn = (at: string): number | null => (/^\d{1,15}$/.test(at) ? Number(at) : null);

/** When the moment of an address was, Unix milliseconds; null: not known yet. there: a position whose time is known. */
export function momentMs(at: string, there: { position: number; time: string | null }, span: LogSpan | null): number | null {
  const position = positionIn(at);
  const known = position === null ? at : there.position === position && there.time ? there.time : span && timeNear(span, position);
  return Date.parse(known ?? "") || null;
}
