/** Which moment is looked at, and moving through them. The newest wish alone is answered. */
import { batch, computed, effect, signal } from "@preact/signals";
import { failure, get } from "../../api/client";
import { moment, setQuery } from "../../app/router";
import { now } from "../../app/clock";
import { link } from "../../live/live";
import { topicOf, type LogEvent } from "../../live/protocol";
import { momentMs, positionIn, timeNear, within, type LogSpan } from "./span";

const DEBOUNCE_MS = 100;
const PLAY_MS = 700;

export const span = signal<LogSpan | null>(null);
export const trouble = signal("");
/** Under the thumb; null: now. It runs ahead of the address while one drags. */
export const thumb = signal<number | null>(null);
export const playing = signal(false);
/** Events in a step of the play. */
export const stride = signal(1);
/** What stands at the moment: exact once it is known. */
export const there = signal<{ position: number; time: string | null; event: string }>({ position: 0, time: null, event: "" });

export const isPast = computed(() => moment.value !== "");
export const time = computed(() => {
  const at = thumb.value;
  if (at === null) return span.value?.last_time ?? null;
  if (there.value.position === at && there.value.time) return there.value.time;
  return span.value && timeNear(span.value, at);
});

/** What periods are counted back from: the moment that the page shows. null: not known yet. */
export const shownMs = computed(() => (moment.value ? momentMs(moment.value, there.value, span.value) : now.value));

let asked = new AbortController();
let settling: ReturnType<typeof setTimeout> | undefined;
let player: ReturnType<typeof setInterval> | undefined;

/** Reads how long the log is, and begins where the address says. */
export async function openHistory(): Promise<void> {
  try {
    span.value = (await get<LogSpan>("/events/density", { buckets: 200 })).body;
    trouble.value = "";
  } catch (error) {
    trouble.value = failure(error);
  }
}

/** At now the log grows under the slider: its end, and where now is, move with it. */
export async function freshen(): Promise<void> {
  const known = span.peek();
  if (known && thumb.peek() === null && link.peek().position > known.head) await openHistory();
}

/** To a position; at the newest one it is now. */
export function goTo(position: number, atOnce = false): void {
  const known = span.peek();
  if (!known) return;
  const to = within(position, known.first_position, known.head);
  thumb.value = to === known.head ? null : to;
  clearTimeout(settling);
  const settle = () => setQuery({ at: thumb.peek() === null ? "" : String(to) });
  if (atOnce) settle();
  else settling = setTimeout(settle, DEBOUNCE_MS);
}

export function toNow(): void {
  play(false);
  clearTimeout(settling);
  thumb.value = null;
  setQuery({ at: "" }, false);
  void openHistory();
}

export function play(on: boolean): void {
  clearInterval(player);
  playing.value = on && span.peek() !== null;
  if (!playing.peek()) return;
  if (thumb.peek() === null) goTo(span.peek()?.first_position ?? 0, true);
  player = setInterval(() => {
    goTo((thumb.peek() ?? 0) + stride.peek(), true);
    if (thumb.peek() === null) play(false);
  }, PLAY_MS);
}

/** The address may change by itself: by Back, by a link. */
export function followAddress(): () => void {
  return effect(() => {
    const at = moment.value;
    asked.abort();
    asked = new AbortController();
    if (at === "") thumb.value = null;
    else void lookUp(at, asked.signal);
  });
}

async function lookUp(at: string, ended: AbortSignal): Promise<void> {
  const position = positionIn(at);
  if (position !== null) thumb.value = position;
  try {
    const { body } = await get<{ position: number; time: string | null }>("/events/position", { time: at }, ended);
    const event = await eventAt(body.position, ended);
    if (ended.aborted) return;
    batch(() => {
      thumb.value = body.position;
      there.value = { ...body, event };
      trouble.value = "";
    });
  } catch (error) {
    if (!ended.aborted) trouble.value = failure(error);
  }
}

/** Its topic; empty where it can't be had by itself, as in the archive. */
async function eventAt(position: number, ended: AbortSignal): Promise<string> {
  if (position < 1) return "";
  try {
    const { body } = await get<LogEvent | null>("/events", { after: position - 1, limit: 1 }, ended, { accept: "application/x-ndjson" });
    return body?.position === position ? topicOf(body) : "";
  } catch (error) {
    if (ended.aborted) throw error;
    return "";
  }
}
