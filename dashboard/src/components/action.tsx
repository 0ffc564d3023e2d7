/** A button that changes something. It is off, and says why, while what is shown is not the present. */
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { hindrance } from "../app/acting";

interface Props {
  onClick: () => void;
  /** Why it can't be done for a reason of its own; empty when it can. */
  off?: string;
  class?: string;
  /** What it does, where its text alone does not say. */
  label?: string;
  children: ComponentChildren;
}

/** It can be focused while it is off, so that a screen reader says why. */
export function Action({ onClick, off = "", class: name = "", label, children }: Props) {
  const id = useId();
  const why = hindrance.value || off;
  return (
    <>
      <button class={name} aria-label={label} aria-disabled={why ? "true" : undefined} aria-describedby={why ? id : undefined} title={why || undefined} onClick={() => why === "" && onClick()}>{children}</button>
      {why && <span id={id} class="hidden">{why}</span>}
    </>
  );
}
