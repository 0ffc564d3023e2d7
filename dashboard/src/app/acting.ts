/** Whether the page may change anything, and why not. */
import { computed } from "@preact/signals";
import { link } from "../live/live";
import { moment } from "./router";

/** Empty when actions are on. */
export const whyNoActions = computed((): string => {
  if (moment.value) return "You look at the past, which can't be changed. Go back to now to act.";
  if (link.value.reason) return "There is no connection to the DMS, so what you see may be old. Actions come back with it.";
  return "";
});
