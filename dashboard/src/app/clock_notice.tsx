/** Says that this machine's clock is off, as what it shows elsewhere then differs from what the page counts down. */
import { useComputed } from "@preact/signals";
import { link } from "../live/live";
import { duration } from "./format";

const TOLERATED_MS = 5_000;

export function ClockNotice() {
  const words = useComputed(() => clockWords(link.value.aheadMs));
  return words.value ? <p class="notice" role="status">{words}</p> : null;
}

/** Empty where it is right. aheadMs: of the DMS's clock. */
export function clockWords(aheadMs: number): string {
  if (Math.abs(aheadMs) < TOLERATED_MS) return "";
  const off = `${duration(Math.abs(aheadMs) / 1000)} ${aheadMs > 0 ? "behind" : "ahead of"} the DMS's`;
  return `The clock of this machine is ${off}. All that runs here, such as the time left to pay, goes by the DMS's clock.`;
}
