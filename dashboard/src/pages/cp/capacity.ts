/**
 * What of this machine is taken, moved on by each event: the bars move with the event itself, and `/providers` confirms
 * them. As `projections/capacity.py` folds them, with as much as the page knows of jobs that began before it was opened.
 */
import { topicOf, type LogEvent } from "../../live/protocol";
import type { Deployment, Gpu, Provider, Resources } from "../../api/answers";

/** What one job holds. shared: it has its GPUs together with other jobs. */
interface Held {
  resources: Resources;
  gpuUuids: readonly string[];
  shared: boolean;
}

/** held: job id -> what it holds. onHold: job id -> what is kept for it until it is paid, as far as that is known. */
interface Machine {
  row: Provider;
  held: ReadonlyMap<string, Held>;
  onHold: ReadonlyMap<string, Resources>;
}

export const NOTHING: Resources = { cpu_mhz: 0, memory_mb: 0, vram_mb: 0 };
/** Later events are dropped in the answer's favour. */
const MOST_EVENTS = 500;

export const onboarded = (row: Provider | null | undefined): boolean => (row?.onboarded.memory_mb ?? 0) > 0;

/**
 * The answer `row` of that position, with the events that it does not have yet. deployments: jobs that are or were seen
 * here; what they hold is in the answer unless they were taken after it. events: in the order of the log.
 */
export function moved(row: Provider, position: number, deployments: readonly Deployment[], events: readonly LogEvent[]): Provider {
  const news = events.filter((event) => event.position > position);
  const takenSince = new Set(news.filter((event) => topicOf(event) === "deployment.accepted").map(keyOf));
  const held = deployments
    .filter(({ job_id }) => !takenSince.has(job_id))
    .map(({ job_id, cpu_mhz, memory_mb, vram_mb }): [string, Held] => [job_id, { resources: { cpu_mhz, memory_mb, vram_mb }, gpuUuids: [], shared: false }]);
  return news.reduce(after, { row, held: new Map(held), onHold: new Map() }).row;
}

/** Those that hold or held something, newest last; the oldest make room. */
export function seenBefore(seen: readonly Deployment[], running: readonly Deployment[]): readonly Deployment[] {
  const holding = running.filter(({ status }) => ["accepted", "created", "running", "stopping"].includes(status));
  const fresh = new Set(holding.map(({ job_id }) => job_id));
  return [...seen.filter(({ job_id }) => !fresh.has(job_id)), ...holding].slice(-MOST_EVENTS);
}

/** The newest events, for answers that are older than they are. */
export function remembered(events: readonly LogEvent[], event: LogEvent): readonly LogEvent[] {
  return [...events, event].slice(-MOST_EVENTS);
}

function after(machine: Machine, event: LogEvent): Machine {
  const key = keyOf(event);
  const data = event.data as Record<string, unknown>;
  switch (topicOf(event)) {
    case "device.onboarded":
      return ofDevice(machine, { ...onboardedBy(data), available: data["available"] !== false });
    case "device.resources_changed": {
      const offered = { cpu_mhz: Number(data["cpu_mhz"]), memory_mb: Number(data["memory_mb"]), vram_mb: machine.row.onboarded.vram_mb };
      return ofDevice(machine, { onboarded: offered, ntx_price: String(data["ntx_price"] ?? machine.row.ntx_price) });
    }
    case "device.gpus_changed":
      return ofDevice(machine, { gpus: withHolds(data["gpus"] as Gpu[], machine.held) });
    case "device.availability_changed":
      return ofDevice(machine, { available: data["available"] === true });
    case "device.hindered":
      return ofDevice(machine, { hindrance: typeof data["reason"] === "string" && data["reason"] ? data["reason"] : "no job can be run just now" });
    case "device.unhindered":
      return ofDevice(machine, { hindrance: "" });
    case "device.offboarded":
      return ofDevice(machine, { available: false, onboarded: NOTHING, gpus: [] });
    case "deployment.accepted":
      return takenBy(machine, key, heldBy(data));
    case "deployment.container_exited":
    case "deployment.failed":
    case "deployment.stopped":
      return freedBy(machine, key);
    case "hold.placed":
      return keptFor(machine, key, amount(data["reserved"]));
    case "hold.ended":
      return keptFor(machine, key, null);
  }
  return machine;
}

/** Which events `after` has a use for. */
export const CAPACITY_EVENTS = ["device.*", "deployment.*", "hold.*"];

/** `job/0199…` or `deployment-0199…` -> the id. */
function keyOf(event: LogEvent): string {
  return /[0-9a-f]{8}-[0-9a-f-]{27}$/.exec(event.subject)?.[0] ?? event.subject;
}

function onboardedBy(data: Record<string, unknown>): Partial<Provider> {
  const total = data["total"] as { cpu_mhz: number; memory_mb: number; gpus?: Gpu[] };
  const gpus = total.gpus ?? [];
  const vram_mb = gpus.reduce((sum, gpu) => sum + gpu.total_vram_mb, 0);
  return {
    total: { cpu_mhz: total.cpu_mhz, memory_mb: total.memory_mb, vram_mb },
    onboarded: amount(data["offered"]),
    ntx_price: String(data["ntx_price"] ?? "0"),
    channel: String(data["channel"] ?? ""),
    gpus,
  };
}

function ofDevice(machine: Machine, change: Partial<Provider>): Machine {
  const row = { ...machine.row, ...change };
  row.online = row.available && !row.hindrance;
  return { ...machine, row: counted(row) };
}

const heldBy = (data: Record<string, unknown>): Held => ({
  resources: amount(data["reserved"]),
  gpuUuids: (data["gpu_uuids"] as string[] | undefined) ?? [],
  shared: data["gpus_shared"] === true,
});

function takenBy(machine: Machine, jobId: string, held: Held): Machine {
  const before = machine.held.get(jobId);
  const reserved = plus(minus(machine.row.reserved, before?.resources ?? NOTHING), held.resources);
  const gpus = withHolds(machine.row.gpus, new Map([[jobId, held]]));
  return { ...keptFor(machine, jobId, null), held: new Map([...machine.held, [jobId, held]]), row: counted({ ...keptFor(machine, jobId, null).row, reserved, gpus }) };
}

/** What a GPU had free before is not known here where the job had it alone; the next answer says it. */
function freedBy(machine: Machine, jobId: string): Machine {
  const before = machine.held.get(jobId);
  if (!before) return machine;
  const held = new Map(machine.held);
  held.delete(jobId);
  const share = before.resources.vram_mb / Math.max(1, before.gpuUuids.length);
  const gpus = machine.row.gpus.map((gpu) => (before.gpuUuids.includes(gpu.uuid) ? givenBack(gpu, share, [...held.values()]) : gpu));
  return { ...machine, held, row: counted({ ...machine.row, reserved: minus(machine.row.reserved, before.resources), gpus }) };
}

function givenBack(gpu: Gpu, shareMb: number, others: readonly Held[]): Gpu {
  const still = others.some(({ gpuUuids }) => gpuUuids.includes(gpu.uuid));
  return { ...gpu, taken: false, shared: still && gpu.shared, free_vram_mb: Math.min(gpu.total_vram_mb, gpu.free_vram_mb + shareMb) };
}

function withHolds(gpus: readonly Gpu[], held: ReadonlyMap<string, Held>): Gpu[] {
  return gpus.map((gpu) => {
    const holds = [...held.values()].filter(({ gpuUuids }) => gpuUuids.includes(gpu.uuid));
    if (holds.length === 0) return gpu;
    if (!holds.every(({ shared }) => shared)) return { ...gpu, free_vram_mb: 0, taken: true };
    const taken = holds.reduce((sum, { resources, gpuUuids }) => sum + resources.vram_mb / Math.max(1, gpuUuids.length), 0);
    return { ...gpu, free_vram_mb: Math.max(0, gpu.free_vram_mb - taken), shared: true };
  });
}

function keptFor(machine: Machine, jobId: string, kept: Resources | null): Machine {
  const before = machine.onHold.get(jobId);
  const onHold = new Map(machine.onHold);
  if (kept) onHold.set(jobId, kept);
  else onHold.delete(jobId);
  const on_hold = plus(minus(machine.row.on_hold, before ?? NOTHING), kept ?? NOTHING);
  return { ...machine, onHold, row: { ...machine.row, on_hold } };
}

const counted = (row: Provider): Provider => ({ ...row, free: minus(row.onboarded, row.reserved) });

function amount(given: unknown): Resources {
  const { cpu_mhz = 0, memory_mb = 0, vram_mb = 0 } = (given ?? {}) as Partial<Resources>;
  return { cpu_mhz, memory_mb, vram_mb };
}

const plus = (one: Resources, other: Resources): Resources => ({
  cpu_mhz: one.cpu_mhz + other.cpu_mhz,
  memory_mb: one.memory_mb + other.memory_mb,
  vram_mb: one.vram_mb + other.vram_mb,
});

const minus = (one: Resources, other: Resources): Resources => ({
  cpu_mhz: one.cpu_mhz - other.cpu_mhz,
  memory_mb: one.memory_mb - other.memory_mb,
  vram_mb: one.vram_mb - other.vram_mb,
});
