/** A job's state: a sign, a word and a colour, never the colour alone. */
const SIGNS: Record<string, readonly [sign: string, tone: string]> = {
  "awaiting funding": ["◔", "waiting"], queued: ["◔", "waiting"], funding: ["◔", "waiting"], requested: ["◔", "waiting"],
  running: ["▶", "running"], completed: ["✔", "completed"], failed: ["✖", "failed"], stopped: ["■", "stopped"],
  terminated: ["■", "stopped"], expired: ["■", "stopped"], rejected: ["■", "stopped"], unreachable: ["⚠", "lost"],
};

export const signOf = (status: string): string => SIGNS[status]?.[0] ?? "◔";

/** word: what is said in place of the state's own name. */
export function Status({ status, unreachable = false, word = status }: { status: string; unreachable?: boolean; word?: string }) {
  const [sign, tone] = unreachable ? (["⚠", "lost"] as const) : (SIGNS[status] ?? (["◔", "waiting"] as const));
  return <span class={`status ${tone}`}><span aria-hidden="true">{sign}</span> {unreachable ? "lost contact" : word}</span>;
}
