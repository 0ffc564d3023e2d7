/** Small parts that many pages use. */
import type { ComponentChildren } from "preact";
import { localTime, plain, short, utcTime } from "../app/format";

/** In the viewer's time, UTC on hover. */
export function Time({ at }: { at: string | null | undefined }) {
  return at ? <time dateTime={at} title={utcTime(at)}>{localTime(at)}</time> : <span class="none">–</span>;
}

export function Peer({ id }: { id: string }) {
  return id ? <code title={plain(id)}>{plain(short(id))}</code> : <span class="none">–</span>;
}

/** What went wrong, and what to do about it. */
export function Trouble({ text, retry }: { text: string; retry?: () => void }) {
  if (!text) return null;
  return <p class="trouble" role="alert">{plain(text)} {retry && <button onClick={retry}>Try again</button>}</p>;
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
