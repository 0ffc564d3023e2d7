/** Small parts that many pages use. */
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { exactTime, localTime, plain, short, utcTime } from "../app/format";
import { moment } from "../app/router";

/** In the viewer's time, UTC on hover. exact: with its seconds, whichever day it was. */
export function Time({ at, exact = false }: { at: string | null | undefined; exact?: boolean }) {
  return at ? <time dateTime={at} title={utcTime(at)}>{exact ? exactTime(at) : localTime(at)}</time> : <span class="none">–</span>;
}

export function Peer({ id }: { id: string }) {
  return id ? <code title={plain(id)}>{plain(short(id))}</code> : <span class="none">–</span>;
}

/** What went wrong, and what to do about it. */
export function Trouble({ text, retry }: { text: string; retry?: () => void }) {
  if (!text) return null;
  return <p class="trouble" role="alert">{plain(text)} {retry && <button onClick={retry}>Try again</button>}</p>;
}

/** Read out once for each `of`, such as an answer to other filters, and not with each change of the text. */
export function Announced({ of, text }: { of: unknown; text: string }) {
  const told = useRef<{ of: unknown; text: string }>({ of: null, text: "" });
  if (text !== "" && told.current.of !== of) told.current = { of, text };
  return <span class="hidden" role="status">{told.current.text}</span>;
}

/** For parts that have no past, while the rest of the page shows it. */
export function OnlyNow({ children = "This is as it is now, not as it was at the moment that you look at." }: { children?: ComponentChildren }) {
  return moment.value ? <p class="notice">{children}</p> : null;
}

/** Nothing to show yet: says what the first step is. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><h2>{title}</h2>{children}</div>;
}

export interface Segment {
  name: string;
  value: number;
  tone: "reserved" | "held" | "free" | "rest";
}

/** Parts of a whole as one bar, with each part in words for those who do not see it. */
export function Bar({ label, segments, total, unit }: { label: string; segments: readonly Segment[]; total: number; unit: (value: number) => string }) {
  const text = segments.map(({ name, value }) => `${name} ${unit(value)}`).join(", ");
  return (
    <div class="capacity">
      <div class="label"><b>{label}</b> <span>{text}</span></div>
      <svg class="track" role="img" aria-label={`${label}: ${text}`} viewBox="0 0 1000 12" preserveAspectRatio="none">
        {segments.map(({ tone, value }, index) => {
          const before = segments.slice(0, index).reduce((sum, one) => sum + one.value, 0);
          return <rect class={tone} x={(before / (total || 1)) * 1000} width={(value / (total || 1)) * 1000} height="12" />;
        })}
      </svg>
    </div>
  );
}
