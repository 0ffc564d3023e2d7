/** The time, for what shows how it passes. */
import { computed, signal } from "@preact/signals";
import { link } from "../live/live";

const HOUR_MS = 3_600_000;

/** This machine's clock, once a second. */
export const tick = signal(Date.now());
setInterval(() => globalThis.document?.hidden || (tick.value = Date.now()), 1000);

/** The DMS's clock, for all that is counted from or to a time that it told: this machine's may be off by hours. */
export const now = computed(() => tick.value + link.value.aheadMs);
/** The viewer's midnight, Unix milliseconds. */
export const today = computed(() => new Date(now.value).setHours(0, 0, 0, 0));
/** Whole hours since 1970. */
export const hour = computed(() => Math.floor(now.value / HOUR_MS));
