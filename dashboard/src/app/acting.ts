/** Whether what changes something can be done now, and if not, why: told where the button is. */
import { computed } from "@preact/signals";
import { link } from "../live/live";
import { moment } from "./router";

/** Empty when one can act. */
export const hindrance = computed(() => {
  if (moment.value) return "You look at the past. Go back to now to change something.";
  if (link.value.state === "live") return "";
  if (link.value.state === "connecting") return "Not connected to the DMS yet.";
  return "The DMS can't be reached, so what you see may be old. This works again as soon as it answers.";
});
