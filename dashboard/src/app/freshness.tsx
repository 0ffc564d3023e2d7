/** How fresh what is shown is: "live · position 1,234 · 0.2 s ago". */
import { computed, useComputed, useSignalEffect, type ReadonlySignal } from "@preact/signals";
import { link } from "../live/live";
import type { Link } from "../live/protocol";
import { duration, whole } from "./format";
import { tick } from "./clock";

const words = wordsOf(link, tick);

/** The age is a text node of its own, so that its tick renders nothing again. */
export function Freshness() {
  const state = useComputed(() => link.value.state);
  const reason = useComputed(() => link.value.reason);
  useLost();
  const lost = state.value !== "live";
  return (
    <span class={`fresh ${lost ? "lost" : "live"}`}>
      <span data-testid="freshness" title={reason}><i aria-hidden="true" /> {words}</span>
      {/* Read out when it changes, not with each tick. */}
      <span class="hidden" role="status">{lost ? `${state.value}. ${reason.value}` : ""}</span>
    </span>
  );
}

/** What is shown may be old: the whole page says so. */
function useLost(): void {
  useSignalEffect(() => void document.documentElement.classList.toggle("is-stale", link.value.state === "reconnecting"));
}

/** The age ticks with all other clocks of the page, not with each word of the DMS: each change has the browser draw a frame,
 *  and of many open pages those add up. */
export function wordsOf(link: ReadonlySignal<Link>, now: ReadonlySignal<number>): ReadonlySignal<string> {
  const [state, position] = [computed(() => link.value.state), computed(() => link.value.position)];
  return computed(() => freshness(state.value, position.value, link.peek().lastHeard, now.value));
}

export function freshness(state: Link["state"], position: number, lastHeard: number, nowMs: number): string {
  const seconds = Math.max(0, nowMs - lastHeard) / 1000;
  if (state === "live") return `live · position ${whole(position)} · ${duration(seconds)} ago`;
  return lastHeard ? `${state}, last seen ${duration(seconds)} ago` : state;
}
