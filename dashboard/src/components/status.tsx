/** A job's state: a sign, a word and a colour, never the colour alone. */
const SIGNS: Record<string, readonly [sign: string, tone: string]> = {
  "awaiting funding": ["◔", "waiting"], queued: ["◔", "waiting"], funding: ["◔", "waiting"], requested: ["◔", "waiting"],
  running: ["▶", "running"], completed: ["✔", "completed"], failed: ["✖", "failed"], stopped: ["■", "stopped"],
  terminated: ["■", "stopped"], expired: ["■", "stopped"], unreachable: ["⚠", "lost"],
};

export function Status({ status, unreachable = false }: { status: string; unreachable?: boolean }) {
  const [sign, tone] = unreachable ? (["⚠", "lost"] as const) : (SIGNS[status] ?? (["◔", "waiting"] as const));
  return <span class={`status ${tone}`}><span aria-hidden="true">{sign}</span> {unreachable ? "lost contact" : status}</span>;
}
