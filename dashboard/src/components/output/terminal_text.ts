/**
 * A line of a program's output as spans of text. Colours are kept; every other escape is removed; a line that was
 * rewritten (`\r`) is what it was last; what can't be seen, or would turn the text round, becomes a sign. The result has
 * text and styles only, so whatever a program prints can't become anything else in the page.
 *
 * Each line begins plain: it looks the same however one came to it.
 */
import { INVISIBLE_RUN, signsOf } from "./characters";
import { PLAIN, restyled, sameStyle, type Style } from "./colours";

export interface Span {
  readonly text: string;
  readonly style: Style;
  /** Signs in place of characters that can't be shown. */
  readonly sign?: true;
  /** Found by the search. */
  readonly hit?: true;
}

/** A line with more changes of colour than these goes on in the last one. */
export const MOST_SPANS = 400;

const ESCAPES = new RegExp(
  [
    "(?:\\u001b\\[|\\u009b)([0-?]*)([ -/]*)([@-~])", // control sequences: parameters, intermediates, final
    "(?:\\u001b[\\]PX^_]|[\\u009d\\u0090\\u0098\\u009e\\u009f])[^\\u0007\\u001b\\u0090\\u0098\\u009c-\\u009f]*(?:\\u0007|\\u001b\\\\|\\u009c)", // strings
    "\\u001b[ -/]+[0-~]", // of several characters, such as of character sets
    "\\u001b[0-Z\\\\^-~]", // of two; those that begin a string which never ends stay, and are shown
    "\\r",
  ].join("|"),
  "g",
);

export function spansOf(line: string): Span[] {
  const drawn = new Drawn();
  let [from, style]: [number, Style] = [0, PLAIN];
  for (const found of line.matchAll(ESCAPES)) {
    drawn.write(line.slice(from, found.index), style);
    from = found.index + found[0].length;
    if (found[0] === "\r") drawn.toStart();
    else if (found[3] === "m" && !found[2]) style = /^[\d;:]*$/.test(found[1] ?? "") ? restyled(style, found[1] ?? "") : style;
    else if (found[3] === "K") drawn.erase(found[1] ?? "");
    else if (found[3] === "G" && /^[01]?$/.test(found[1] ?? "")) drawn.toStart();
  }
  drawn.write(line.slice(from), style);
  return drawn.spans;
}

/** What a terminal's line would show. */
class Drawn {
  spans: Span[] = [];
  /** The next text begins the line anew. */
  private rewrites = false;

  write(text: string, style: Style): void {
    if (text === "") return;
    if (this.rewrites) [this.spans, this.rewrites] = [[], false];
    let from = 0;
    for (const run of text.matchAll(INVISIBLE_RUN)) {
      this.add({ text: text.slice(from, run.index), style });
      this.add({ text: signsOf(run[0]), style, sign: true });
      from = run.index + run[0].length;
    }
    this.add({ text: text.slice(from), style });
  }

  toStart(): void {
    this.rewrites = true;
  }

  /** `ESC [ n K`: to the end of the line, or all of it. */
  erase(part: string): void {
    if (part === "2" || (this.rewrites && (part === "" || part === "0"))) this.spans = [];
  }

  private add(span: Span): void {
    if (span.text === "") return;
    const last = this.spans.at(-1);
    const joins = last && ((sameStyle(last.style, span.style) && last.sign === span.sign) || this.spans.length >= MOST_SPANS);
    if (joins) this.spans[this.spans.length - 1] = { ...last, text: last.text + span.text };
    else this.spans.push(span);
  }
}

/** As it is read, without colours. */
export const textOf = (spans: readonly Span[]): string => spans.map(({ text }) => text).join("");
