/**
 * A button that may be off. It can be reached by keyboard all the same: its title says why, which is read out as well, and
 * a press tells it where there is no pointer to rest on it.
 */
import type { ComponentChildren } from "preact";
import { toast } from "./toasts";

interface Props {
  /** Why it is off; empty when it is on. */
  why: string;
  /** None: what it submits is the form's. */
  onPress?: () => void;
  /** What it does is under way. */
  busy?: boolean;
  class?: string;
  /** Its name, where its text alone says too little. */
  label?: string | undefined;
  title?: string;
  submits?: boolean;
  /** As a switch: whether it is on. */
  checked?: boolean;
  children?: ComponentChildren;
}

export function Press({ why, onPress, busy = false, class: name, label, title, submits = false, checked, children }: Props) {
  const press = (event: Event): void => {
    if (!why && !busy) return onPress?.();
    event.preventDefault(); // a form is not submitted, by Enter in a field either
    if (why) toast(why);
  };
  return (
    <button
      type={submits ? "submit" : "button"} class={name || undefined} aria-disabled={why || busy ? "true" : undefined} aria-busy={busy} title={why || title || undefined}
      aria-label={label} role={checked === undefined ? undefined : "switch"} aria-checked={checked} onClick={press}
    >
      {children}
    </button>
  );
}
