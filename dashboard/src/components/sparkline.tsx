/** A small line without axes, for a row of a table. */
const [WIDTH, HEIGHT] = [120, 26];

/** highest: of the scale; 0: the largest value. text: what it shows, for those who do not see it. */
export function Sparkline({ values, highest, text }: { values: readonly (number | null)[]; highest: number; text: string }) {
  const top = Math.max(highest, ...values.map((value) => value ?? 0)) || 1;
  const step = WIDTH / Math.max(1, values.length - 1);
  const path = values.map((value, index) => (value === null ? "" : `${pen(values, index)}${(index * step).toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 2)).toFixed(1)}`)).join("");
  return (
    <span class="spark">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} role="img" aria-label={text}>
        <path d={path} />
      </svg>
      <span>{text}</span>
    </span>
  );
}

const pen = (values: readonly (number | null)[], index: number): "M" | "L" => (index === 0 || values[index - 1] === null ? "M" : "L");
