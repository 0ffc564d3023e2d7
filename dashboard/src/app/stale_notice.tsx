/** Says at the head of a page that it may be old, and what is off because of that. */
import { useComputed } from "@preact/signals";
import { link } from "../live/live";
import { useRegularly } from "./regularly";
import { CHECK_MS, checkSession } from "./session";

export function StaleNotice() {
  const stale = useComputed(() => link.value.state === "reconnecting");
  return stale.value ? <Stale /> : null;
}

function Stale() {
  useRegularly(() => void checkSession(), CHECK_MS);
  return (
    <p class="notice stale-notice" role="status">
      The DMS can't be reached, so what you see may be old, and nothing can be changed from here. It goes on by itself as soon as
      the DMS answers. If it doesn't: is the DMS running? <code>nunet device status</code> says so on its machine.
    </p>
  );
}
