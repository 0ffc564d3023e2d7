/** Whether the page may change anything, and why not. */
import { computed } from "@preact/signals";
import { link } from "../live/live";
import { moment } from "./router";
import { session } from "./session";

/** Who may what, as `dms/domain/access.py` has it. */
const ROLES = {
  "ask for jobs": ["admin", "spd"],
  "steer jobs": ["admin", "spd", "cpd"],
  "steer the provider": ["admin", "cpd"],
  "claim rewards and refunds": ["admin", "cpd"],
  "administer": ["admin"],
} as const satisfies Record<string, readonly string[]>;

export type Need = keyof typeof ROLES;

const whyNoActions = computed((): string => {
  if (moment.value) return "You look at the past, which can't be changed. Go back to now to act.";
  if (link.value.reason) return "There is no connection to the DMS, so what you see may be old. Actions come back with it.";
  return "";
});

/** Empty when it may be done. */
export const whyNot = (need: Need): string => whyNoActions.value || whyNotYou(need);

/** Of the token alone. An older DMS does not tell its role, and refuses by itself. */
export function whyNotYou(need: Need): string {
  const [role, roles] = [session.value?.role, ROLES[need] as readonly string[]];
  return !role || roles.includes(role) ? "" : `To ${need} takes a token of the role ${roles.join(" or ")}; yours is ${role}.`;
}
