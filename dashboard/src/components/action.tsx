/** Buttons that change something: off in the past and without a connection, and they say why. */
import type { ComponentChildren } from "preact";
import { useSignal } from "@preact/signals";
import { ApiError } from "../api/client";
import { whyNoActions } from "../app/acting";

interface ActionProps {
  onClick: () => void;
  kind?: "primary" | "danger" | "";
  /** A reason of the page's own why it can't be done now. */
  hindrance?: string;
  busy?: boolean;
  label?: string;
  children: ComponentChildren;
}

export function Action({ onClick, kind = "", hindrance = "", busy = false, label, children }: ActionProps) {
  const why = whyNoActions.value || hindrance;
  return (
    <button class={kind || undefined} disabled={why !== "" || busy} aria-busy={busy} title={why || undefined} aria-label={label && why ? `${label}: ${why}` : label} onClick={onClick}>
      {children}
    </button>
  );
}

/** Runs what changes something, and keeps what went wrong. */
export function useDoing() {
  const [busy, trouble, done] = [useSignal(false), useSignal(""), useSignal("")];
  const run = async (work: () => Promise<string | void>): Promise<boolean> => {
    [busy.value, trouble.value, done.value] = [true, "", ""];
    try {
      done.value = (await work()) ?? "";
      return true;
    } catch (error) {
      trouble.value = error instanceof ApiError ? said(error) : String(error);
      return false;
    } finally {
      busy.value = false;
    }
  };
  return { busy, trouble, done, run };
}

/** The server's words, with each field that it names. */
function said(error: ApiError): string {
  const fields = error.errors.map(({ pointer = "", detail = "" }) => `${pointer} ${detail}`.trim()).filter((text) => text && !error.message.includes(text));
  return [error.message, ...fields.slice(0, 5)].join("; ");
}
