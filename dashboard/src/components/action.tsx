/** Buttons that change something: off in the past, without a connection and for who may not, and they say why. */
import type { ComponentChildren } from "preact";
import { useSignal } from "@preact/signals";
import { ApiError, failure } from "../api/client";
import { whyNot, type Need } from "../app/acting";
import { Press } from "./press";

interface ActionProps {
  need: Need;
  onClick?: () => void;
  kind?: "primary" | "primary ask" | "danger" | "";
  /** A reason of the page's own why it can't be done now. */
  hindrance?: string;
  busy?: boolean;
  label?: string;
  title?: string;
  /** The form that it is in; then there is no `onClick`. */
  submits?: boolean;
  children: ComponentChildren;
}

export function Action({ need, onClick, kind = "", hindrance = "", children, ...others }: ActionProps) {
  return <Press why={whyNot(need) || hindrance} class={kind} {...(onClick && { onPress: onClick })} {...others}>{children}</Press>;
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
      trouble.value = error instanceof ApiError ? said(error) : failure(error);
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
