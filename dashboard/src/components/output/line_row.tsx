/** One row of the output. Whatever a program printed is in text nodes alone. */
import type { GrowingLine, OutputLine } from "../../live/protocol";
import { bytes, lineTime, utcTime, whole } from "../../app/format";
import type { Colour, Style } from "./colours";
import { highlighted } from "./highlight";
import { spansOf, type Span } from "./terminal_text";
import type { Shown } from "./viewer";

export interface RowOptions {
  /** What is searched for. */
  wanted: RegExp | null;
  /** The line of the address, and that of the hit one is at. */
  marked: readonly number[];
  times: boolean;
  showWhole: (line: OutputLine) => void;
}

const parsed = new WeakMap<OutputLine | GrowingLine, readonly Span[]>();

function spans(line: OutputLine | GrowingLine): readonly Span[] {
  const known = parsed.get(line) ?? spansOf(line.text);
  parsed.set(line, known);
  return known;
}

export function OutputRow({ shown, options, of, position }: { shown: Shown; options: RowOptions; of: number; position: number }) {
  const place = { role: "listitem", "aria-setsize": of, "aria-posinset": position + 1 } as const;
  if (shown.kind === "gap") {
    const { first, last, reason } = shown.gap;
    const lines = first === last ? `Line ${whole(first)} is` : `Lines ${whole(first)} to ${whole(last)} are`;
    return <div class="line note" {...place}>{lines} not here{reason ? `: ${reason}` : "."}</div>;
  }
  if (shown.kind === "end") return <div class="line note" {...place}>{shown.text}</div>;
  if (shown.kind === "growing")
    return <div class={`line growing ${shown.growing.stream}`} {...place}><span class="number" aria-hidden="true">…</span><Text line={shown.growing} options={options} /></div>;
  const { seq, line } = shown;
  return (
    <div class={`line ${line?.stream ?? "awaited"} ${options.marked.includes(seq) ? "marked" : ""}`} {...place}>
      <a class="number" href={`#L${seq}`} tabIndex={-1} aria-label={`Line ${seq}${line?.stream === "stderr" ? ", error output" : ""}`}>{seq}</a>
      {options.times && <time dateTime={line?.time ?? ""} title={line ? utcTime(line.time) : ""}>{line ? lineTime(line.time) : ""}</time>}
      {line && <Text line={line} options={options} />}
      {line?.goes_on && <span class="sign" title="The line was longer than what is kept in one piece: its next line is more of it.">↩</span>}
      {line?.cut && <button class="quiet" onClick={() => options.showWhole(line)}>… show all{line.size_bytes ? ` ${bytes(line.size_bytes)}` : ""}</button>}
    </div>
  );
}

export function Text({ line, options }: { line: OutputLine | GrowingLine; options: Pick<RowOptions, "wanted"> }) {
  return (
    <span class="text">
      {highlighted(spans(line), options.wanted).map(({ text, style, sign, hit }) => {
        const name = [classesOf(style), sign && "sign"].filter(Boolean).join(" ");
        const part = name || hasOwnColour(style) ? <span class={name || undefined} style={ownColours(style)}>{text}</span> : text;
        return hit ? <mark>{part}</mark> : part;
      })}
    </span>
  );
}

/** Colours of the theme by class; of a program's own by CSSOM, which the policy for styles allows. */
function classesOf({ foreground, background, bold, faint, italic, underline, struck, inverse }: Style): string {
  const named = (kind: string, colour: Colour | undefined) => typeof colour === "number" && `${kind}-${colour}`;
  return [named("fg", foreground), named("bg", background), bold && "bold", faint && "faint-ink", italic && "italic", underline && "underline", struck && "struck", inverse && "inverse"]
    .filter(Boolean)
    .join(" ");
}

const hasOwnColour = ({ foreground, background }: Style): boolean => typeof foreground === "string" || typeof background === "string";

function ownColours(style: Style): Record<string, string> | undefined {
  if (!hasOwnColour(style)) return undefined;
  const { foreground, background } = style;
  return { ...(typeof foreground === "string" && { "--ink": foreground, color: foreground }), ...(typeof background === "string" && { "--paper": background, background }) };
}
