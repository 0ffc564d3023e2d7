/** The job's steps, live: one row each, on the time that they took. */
import { duration, exactTime, plain, utcTime } from "../../app/format";
import { now } from "../../app/clock";
import { ticks, type Step, type Timeline as Folded } from "../../domain/job_steps";
import "../../styles/timeline.css";

const SIGNS: Record<Step["tone"], string> = { done: "✔", going: "▶", failed: "✖", past: "·", gap: "…" };
const WORDS: Record<Step["tone"], string> = { done: "done", going: "goes on", failed: "failed", past: "got over", gap: "gap" };

/** pastMs: the moment that is shown, Unix milliseconds; 0: now. */
export function TimelineView({ timeline, pastMs }: { timeline: Folded; pastMs: number }) {
  const { steps, over } = timeline;
  const nowMs = ticks(timeline) ? pastMs || now.value : 0;
  const scale = spanOf(steps, over, nowMs);
  return (
    <div class="scroll"><table class="timeline">
      <thead><tr><th>Step</th><th class="number">Took</th><th class="bar-head">{steps[0] && <span title={utcTime(steps[0].from)}>from {exactTime(steps[0].from)}</span>}</th><th>What</th></tr></thead>
      <tbody>
        {steps.map((step) => (
          <tr key={`${step.at}.${step.key}`} class={step.tone}>
            <td><span aria-hidden="true" class="sign">{SIGNS[step.tone]}</span> <a href={`#E${step.at}`}>{step.name}</a><span class="hidden"> {WORDS[step.tone]}</span></td>
            <td class="number">{took(step, nowMs)}</td>
            <td class="bars"><Bar step={step} scale={scale} nowMs={nowMs} /></td>
            <td class="note">{plain(step.note)}</td>
          </tr>
        ))}
      </tbody>
    </table></div>
  );
}

function took(step: Step, nowMs: number): string {
  const ms = (step.to ?? Math.max(nowMs, step.from)) - step.from;
  return ms === 0 && step.to !== null ? "" : duration(ms / 1000);
}

interface Scale {
  from: number;
  length: number;
}

/** Until the job's end, or now: what is told long afterwards would leave nothing to see. */
function spanOf(steps: readonly Step[], over: boolean, nowMs: number): Scale {
  const from = steps[0]?.from ?? 0;
  const ends = steps.filter(({ key }) => over && (key === "end" || key === "after.results")).map(({ from: at, to }) => to ?? at);
  return { from, length: Math.max(1, (over ? Math.max(from, ...ends) : Math.max(nowMs, ...steps.map(({ from: at }) => at))) - from) };
}

function Bar({ step, scale, nowMs }: { step: Step; scale: Scale; nowMs: number }) {
  const place = (ms: number) => Math.min(1000, Math.max(0, ((ms - scale.from) / scale.length) * 1000));
  const left = place(step.from);
  const width = Math.max(4, place(step.to ?? nowMs) - left);
  return (
    <svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label={`from ${exactTime(step.from)} ${step.to === null ? "on" : `to ${exactTime(step.to)}`}`}>
      <rect class={step.tone} x={Math.min(left, 996)} width={width} height="10" />
    </svg>
  );
}
