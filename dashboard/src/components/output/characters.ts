/** Characters that steer how text is drawn, or can't be seen: each has a sign that is shown in its place. */

const NAMED: Readonly<Record<number, string>> = {
  0x061c: "ALM", 0x180e: "MVS", 0x200b: "ZWSP", 0x200e: "LRM", 0x200f: "RLM", 0x2028: "LSEP", 0x2029: "PSEP",
  0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI",
  0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
};
const DELETE = 0x7f;
const LOST = "\ufffd";

/** The joiners U+200C and U+200D are left as they are: scripts and emoji need them, and they turn nothing round. */
const INVISIBLE = [
  "\\u0000-\\u0008\\u000a-\\u001f\\u007f-\\u009f", // controls, without the tab
  "\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb",
  "\\u{e0000}-\\u{e007f}",
  "\\ud800-\\udfff", // halves of a pair
].join("");

/** Runs of such characters. */
export const INVISIBLE_RUN = new RegExp(`[${INVISIBLE}]+`, "gu");

/** "\u202e" -> "[RLO]", "\u0007" -> "^G": signs that every font has. */
export function signOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20 || code === DELETE) return `^${String.fromCharCode(code ^ 0x40)}`;
  if (code >= 0xd800 && code <= 0xdfff) return LOST;
  return `[${NAMED[code] ?? code.toString(16).toUpperCase().padStart(4, "0")}]`;
}

export const signsOf = (run: string): string => Array.from(run, signOf).join("");
