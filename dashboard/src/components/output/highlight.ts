/** Marks what was searched for in lines that are shown. */
import { textOf, type Span } from "./terminal_text";

export const MOST_HITS_A_LINE = 100;

/** null: nothing is searched for. */
export function finder(wanted: string, matchCase: boolean): RegExp | null {
  return wanted === "" ? null : new RegExp(wanted.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), matchCase ? "gu" : "giu");
}

export function highlighted(spans: readonly Span[], wanted: RegExp | null): readonly Span[] {
  if (!wanted) return spans;
  const hits = found(textOf(spans), wanted);
  if (hits.length === 0) return spans;
  const marked: Span[] = [];
  let at = 0;
  for (const span of spans) {
    for (const [from, until, hit] of pieces(at, at + span.text.length, hits))
      marked.push({ ...span, text: span.text.slice(from - at, until - at), ...(hit && { hit: true as const }) });
    at += span.text.length;
  }
  return marked;
}

type Range = readonly [from: number, until: number];

function found(text: string, wanted: RegExp): Range[] {
  const hits: Range[] = [];
  for (const hit of text.matchAll(wanted)) {
    if (hits.length === MOST_HITS_A_LINE) break;
    hits.push([hit.index, hit.index + hit[0].length]);
  }
  return hits;
}

/** The range cut where hits begin and end. */
function pieces(from: number, until: number, hits: readonly Range[]): [number, number, boolean][] {
  const cut: [number, number, boolean][] = [];
  let at = from;
  for (const [begins, ends] of hits) {
    if (ends <= at || begins >= until) continue;
    if (begins > at) cut.push([at, begins, false]);
    cut.push([Math.max(at, begins), Math.min(ends, until), true]);
    at = Math.min(ends, until);
  }
  if (at < until) cut.push([at, until, false]);
  return cut;
}
