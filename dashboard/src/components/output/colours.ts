/** Colours and styles that the escape `ESC [ … m` chooses (ECMA-48, with the colours of xterm). */

/** A number: one of the 16 that the theme defines. A text: `rgb(…)`. */
export type Colour = number | string;

export interface Style {
  readonly foreground?: Colour;
  readonly background?: Colour;
  readonly bold?: boolean;
  readonly faint?: boolean;
  readonly italic?: boolean;
  readonly underline?: boolean;
  readonly struck?: boolean;
  readonly inverse?: boolean;
}

export const PLAIN: Style = {};
const OF_THEME = 16;
const LEVELS = [0, 95, 135, 175, 215, 255] as const;
const MOST_PARAMETERS = 64;

type Change = Partial<Record<keyof Style, Style[keyof Style] | undefined>>;

const SIMPLE: Readonly<Record<number, Change>> = {
  1: { bold: true }, 2: { faint: true }, 3: { italic: true }, 4: { underline: true }, 7: { inverse: true }, 9: { struck: true },
  21: { underline: true }, 22: { bold: undefined, faint: undefined }, 23: { italic: undefined }, 24: { underline: undefined },
  27: { inverse: undefined }, 29: { struck: undefined }, 39: { foreground: undefined }, 49: { background: undefined },
};

/**
 * The style after `ESC [ parameters m`. What is unknown changes nothing; nothing can hide text (8 is ignored).
 * parameters: digits, semicolons, colons.
 */
export function restyled(style: Style, parameters: string): Style {
  const groups = parameters.split(";").slice(0, MOST_PARAMETERS);
  let now: Style = style;
  for (let index = 0; index < groups.length; index++) {
    const [first = "", ...rest] = (groups[index] ?? "").split(":");
    const code = Number(first || "0");
    if (code === 0) now = PLAIN;
    else if (code === 38 || code === 48 || code === 58) {
      const inGroup = rest.length > 0;
      const given = inGroup ? rest : groups.slice(index + 1, index + 5);
      const { colour, used } = extended(given, inGroup);
      if (!inGroup) index += used;
      if (colour !== null && code !== 58) now = changed(now, code === 38 ? { foreground: colour } : { background: colour });
    } else if (code === 4 && rest[0] === "0") now = changed(now, { underline: undefined });
    else now = changed(now, SIMPLE[code] ?? ofSixteen(code));
  }
  return now;
}

function ofSixteen(code: number): Change {
  if (code >= 30 && code <= 37) return { foreground: code - 30 };
  if (code >= 40 && code <= 47) return { background: code - 40 };
  if (code >= 90 && code <= 97) return { foreground: code - 82 };
  if (code >= 100 && code <= 107) return { background: code - 92 };
  return {};
}

/** `5;n` or `2;r;g;b`; with colons there may be a colour space before r. used: of the given parameters. */
function extended(given: readonly string[], inGroup: boolean): { colour: Colour | null; used: number } {
  if (given[0] === "5") return { colour: indexed(byte(given[1])), used: 2 };
  if (given[0] !== "2") return { colour: null, used: given.length > 0 ? 1 : 0 };
  const parts = (inGroup && given.length > 4 ? given.slice(2, 5) : given.slice(1, 4)).map(byte);
  const whole = parts.length === 3 && parts.every((part) => part !== null);
  return { colour: whole ? `rgb(${parts.join(" ")})` : null, used: 4 };
}

const byte = (text: string | undefined): number | null => (text !== undefined && /^\d{0,3}$/.test(text) && Number(text) < 256 ? Number(text) : null);

/** Of xterm's 256: 16 of the theme, a cube of 6 x 6 x 6, 24 greys. */
function indexed(index: number | null): Colour | null {
  if (index === null || index < OF_THEME) return index;
  if (index >= 232) return `rgb(${[8, 8, 8].map((base) => base + (index - 232) * 10).join(" ")})`;
  const at = index - OF_THEME;
  return `rgb(${[Math.floor(at / 36), Math.floor(at / 6) % 6, at % 6].map((step) => LEVELS[step] ?? 0).join(" ")})`;
}

function changed(style: Style, change: Change): Style {
  const next: Record<string, unknown> = { ...style, ...change };
  for (const name of Object.keys(next)) if (next[name] === undefined) delete next[name];
  return next as Style;
}

export const sameStyle = (one: Style, other: Style): boolean => one === other || JSON.stringify(one) === JSON.stringify(other);
