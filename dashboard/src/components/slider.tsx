/** An amount of what there is, by slider or by typing, with the least and the most that is taken marked. */
import { useId } from "preact/hooks";
import "../styles/slider.css";

interface Props {
  name: string;
  unit: string;
  value: number;
  total: number;
  least: number;
  most: number;
  /** What running jobs hold; 0: nothing. */
  reserved: number;
  wrong: string;
  text: (value: number) => string;
  onChange: (value: number) => void;
}

export function AmountSlider({ name, unit, value, total, least, most, reserved, wrong, text, onChange }: Props) {
  const id = useId();
  const percent = (amount: number): number => (amount / (total || 1)) * 100;
  const change = (event: Event): void => onChange(Number((event.currentTarget as HTMLInputElement).value));
  const part = total ? Math.round((value / total) * 100) : 0;
  return (
    <div class="field amount">
      <label for={id}>{name}: <b>{text(value)}</b> of {text(total)} ({part} %)</label>
      <div class="slider">
        <div class="scale">
          <input id={id} type="range" min={0} max={total} step={1} value={value} aria-invalid={wrong !== ""} aria-valuetext={`${text(value)}, ${part} %`} aria-describedby={`${id}-rule`} onInput={change} />
          <svg class="marks" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
            <rect class="taken" x={percent(least)} width={percent(most - least)} height="4" />
            {reserved > 0 && <rect class="needed" x="0" width={percent(reserved)} height="4" />}
          </svg>
          <div class="ticks" aria-hidden="true">
            <span style={{ left: `${percent(least)}%` }}>10 %</span>
            <span style={{ left: `${percent(most)}%` }}>90 %</span>
          </div>
        </div>
        <span class="typed">
          <input type="number" min={least} max={most} step={1} value={value} aria-label={`${name} in ${unit}`} aria-invalid={wrong !== ""} onInput={change} /> {unit}
        </span>
      </div>
      <span id={`${id}-rule`} class={wrong ? "wrong" : "faint"}>
        {wrong || `From ${text(least)} to ${text(most)}${reserved > 0 ? `; running jobs hold ${text(reserved)}` : ""}.`}
      </span>
    </div>
  );
}
