/** The slider over the log: any moment of the past, on whatever page one is. Closed it costs nothing. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { exactTime, utcTime, whole } from "../../app/format";
import { useKeys } from "../../app/keys";
import { useRegularly } from "../../app/regularly";
import { moment } from "../../app/router";
import { Trouble } from "../parts";
import { Press } from "../press";
import { Difference } from "./difference";
import { followAddress, freshen, goTo, openHistory, play, playing, span, stride, there, thumb, time, toNow, trouble } from "./past";
import { bars, eventsIn, stepped, type LogSpan } from "./span";
import "../../styles/history.css";

const FRESHEN_MS = 5_000;
const STRIDES = [1, 10, 100, 1000] as const;

/** isOpen: kept by the shell. */
export function History({ close }: { close: () => void }) {
  const comparing = useSignal(false);
  useEffect(() => {
    void openHistory();
    const end = followAddress();
    return () => {
      end();
      play(false);
    };
  }, []);
  useRegularly(() => void freshen(), FRESHEN_MS);
  const known = span.value;
  return (
    <section class="history" aria-label="History">
      <Trouble text={trouble.value} retry={() => void openHistory()} />
      {known && known.head > 0 && <Slider known={known} />}
      {known?.head === 0 && <p>Nothing has happened yet.</p>}
      {known && (
        <div class="row">
          <Moment known={known} />
          <span class="row push">
            <button onClick={() => play(!playing.value)} aria-pressed={playing.value}>{playing.value ? "❚❚ Stop" : "▶ Play"}</button>
            <label>by <select value={stride.value} onChange={(event) => (stride.value = Number(event.currentTarget.value))}>{STRIDES.map((step) => <option value={step}>{step}</option>)}</select> events</label>
            <button aria-pressed={comparing.value} onClick={() => (comparing.value = !comparing.value)}>Compare</button>
            <Press why={thumb.value === null ? "You look at now already." : ""} onPress={toNow}>Now</Press>
            <button class="quiet" aria-label="Close the history" onClick={() => { toNow(); close(); }}>✕</button>
          </span>
        </div>
      )}
      {known && comparing.value && <Difference known={known} />}
    </section>
  );
}

function Slider({ known }: { known: LogSpan }) {
  const { first_position: first, head } = known;
  const at = thumb.value ?? head;
  const keys = (event: KeyboardEvent) => {
    const to = stepped(event.key, event.shiftKey, at, first, head);
    if (to === null) return;
    event.preventDefault();
    goTo(to);
  };
  const part = head > first ? (at - first) / (head - first) : 1;
  return (
    <div class="scale">
      <svg class="density" viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true">
        {bars(known).map(({ x, width, height }) => <rect x={x} width={width} y={20 - 18 * height} height={18 * height} />)}
      </svg>
      <input type="range" min={first} max={head} step={1} value={at} aria-label="Moment of the log" aria-valuetext={`position ${at}, ${exactTime(time.value ?? "")}`}
        onInput={(event) => goTo(Number(event.currentTarget.value))} onKeyDown={keys} />
      <output class="under" style={{ left: `${part * 100}%` }}>{thumb.value === null ? "now" : exactTime(time.value ?? "")}</output>
    </div>
  );
}

function Moment({ known }: { known: LogSpan }) {
  const at = thumb.value;
  if (at === null) return <span class="faint">{whole(eventsIn(known))} events from {exactTime(known.first_time ?? "")} until now. Drag, or use ← and →, with Shift for ten.</span>;
  return (
    <span data-testid="moment">
      <b title={utcTime(time.value ?? "")}>{exactTime(time.value ?? "")}</b> · position {whole(at)} of {whole(known.head)}
      {there.value.position === at && there.value.event && <> · <code>{there.value.event}</code></>}
    </span>
  );
}

/** The frame around a page that shows the past. */
export function PastFrame() {
  if (!moment.value) return null;
  const at = there.value;
  const words = at.time && String(thumb.value) === String(at.position) ? exactTime(at.time) : moment.value.includes("T") ? exactTime(moment.value) : `position ${moment.value}`;
  return (
    <p class="past-notice" role="status" data-testid="past-notice">
      You look at <b title={utcTime(at.time ?? "")}>{words}</b>. What changes something is off. <button onClick={toNow}>Back to now</button>
    </p>
  );
}

export function useHistoryKeys(toggle: () => void): void {
  const by = (events: number) => goTo((thumb.peek() ?? span.peek()?.head ?? 0) + events);
  useKeys([
    { key: "h", does: "open or close the history", act: toggle },
    { key: "[", does: "one event back, in the history", act: () => by(-1) },
    { key: "]", does: "one event on, in the history", act: () => by(1) },
  ]);
}
