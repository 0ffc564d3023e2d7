/** Figures, times and names as people read them. */
import { today } from "./clock";

const WHOLE = new Intl.NumberFormat("en");

export const whole = (value: number): string => WHOLE.format(value);

/** "1 job", "2 jobs" */
export const counted = (count: number, one: string): string => `${whole(count)} ${count === 1 ? one : `${one}s`}`;

/** "1.5 GB" of 1536 MB. */
export function memory(mb: number): string {
  return mb < 1024 ? `${whole(Math.round(mb))} MB` : `${(mb / 1024).toFixed(mb < 10_240 ? 1 : 0)} GB`;
}

export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function cpu(mhz: number): string {
  return mhz < 1000 ? `${whole(Math.round(mhz))} MHz` : `${(mhz / 1000).toFixed(1)} GHz`;
}

/** Plain decimal text of an amount of the API: 0.02728, never 2e-7, and no needless zeros. Numbers have at most 8 places. */
export function decimal(amount: string | number): string {
  const text = typeof amount === "number" ? amount.toFixed(8) : /e/i.test(amount) ? Number(amount).toFixed(15) : amount;
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** Of the API, for people: "0.40". */
export function ntx(amount: string | number): string {
  const [units = "0", part = ""] = decimal(amount).split(".");
  return `${whole(Number(units))}${part && `.${part.padEnd(2, "0")}`} NTX`;
}

export function duration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const all = Math.round(seconds);
  const [days, hours, minutes, rest] = [Math.floor(all / 86_400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return `${minutes} min ${rest} s`;
}

/** The middle is what a person can do without: "12D3…vo1G". */
export const short = (peer: string): string => (peer.length > 14 ? `${peer.slice(0, 4)}…${peer.slice(-4)}` : peer);

const MINUTES: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };
const SECONDS: Intl.DateTimeFormatOptions = { ...MINUTES, second: "2-digit" };
const FRACTIONS: Intl.DateTimeFormatOptions = { ...SECONDS, fractionalSecondDigits: 3 };
const formatOf = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat("en-GB", options);

/** In the viewer's own time: only the clock today, the day as well before. What is on the page at midnight is written anew. */
function written(onTheDay: Intl.DateTimeFormatOptions, earlier: Intl.DateTimeFormatOptions) {
  const day = { day: "2-digit", month: "short", ...earlier } as const;
  const [ofToday, ofYear, ofAnyYear] = [formatOf(onTheDay), formatOf(day), formatOf({ ...day, year: "numeric" })];
  return (time: string | number | Date, now = new Date(today.value)): string => {
    const date = new Date(time);
    if (Number.isNaN(date.getTime())) return "–";
    if (date.toDateString() === now.toDateString()) return ofToday.format(date);
    return (date.getFullYear() === now.getFullYear() ? ofYear : ofAnyYear).format(date);
  };
}

export const localTime = written(SECONDS, MINUTES);
/** Of what is one of many in a short time: an event, a moment of the log. */
export const exactTime = written(SECONDS, SECONDS);
/** Of a line of output. */
export const lineTime = written(FRACTIONS, FRACTIONS);

/** For the title of a time: UTC, whole. */
export const utcTime = (time: string | number | Date): string => {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "" : `${date.toISOString().replace("T", " ").replace("Z", "")} UTC`;
};

/** What could steer how text is shown: as a visible sign. For text of strangers outside the output view. */
export function plain(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, "\u{fffd}");
}
