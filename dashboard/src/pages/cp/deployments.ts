/** What a provider wants to know of a job that runs here. */
import { duration } from "../../app/format";
import type { Happening } from "../../domain/job_steps";
import type { Deployment } from "../../api/answers";

export const OPEN_STATUSES = ["requested", "awaiting", "funding", "submitted", "accepted", "created", "running", "stopping"];
export const ALL_STATUSES = [...OPEN_STATUSES, "completed", "failed", "stopped", "rejected"];

export const isOpen = ({ status }: Pick<Deployment, "status">): boolean => OPEN_STATUSES.includes(status);


/** Until its time limit, in seconds; null before its container was started. */
export function secondsLeft(job: Pick<Deployment, "started_at" | "minutes" | "ended_at">, nowMs: number): number | null {
  if (!job.started_at || job.ended_at) return null;
  return Math.max(0, (Date.parse(job.started_at) + job.minutes * 60_000 - nowMs) / 1000);
}

/** Time left in whole seconds, so that it ticks steadily. */
export function leftWords(seconds: number | null): string {
  if (seconds === null) return "not started";
  if (seconds <= 0) return "time is over";
  return seconds < 60 ? `${Math.ceil(seconds)} s left` : `${duration(Math.ceil(seconds))} left`;
}

const FAULTS: Record<string, string> = {
  provider: "this machine's",
  requester: "the requester's",
  job: "the job's own",
  network: "the network's",
};

/** "failed by the job's own fault: exit code 3", and what follows. */
export function endWords(job: Deployment): string {
  const fault = job.fault ? ` by ${FAULTS[job.fault] ?? job.fault} fault` : "";
  const code = job.exit_code === null ? "" : ` with exit code ${job.exit_code}`;
  return `${job.status}${fault}${code}${job.reason ? `: ${job.reason}` : ""}`;
}

/** One row of a timeline. seconds: since the event before. */
export interface TimelineRow {
  position: number;
  time: string;
  topic: string;
  words: string;
  note: string;
  seconds: number | null;
}

const WORDS: Record<string, string> = {
  "deployment.requested": "asked for",
  "deployment.funding_pending": "payment looked for",
  "deployment.funding_accepted": "payment found good",
  "deployment.accepted": "taken",
  "deployment.rejected": "refused",
  "deployment.image_pulled": "image pulled",
  "deployment.input_started": "input being fetched",
  "deployment.input_done": "input in place",
  "deployment.input_failed": "input can't be had",
  "deployment.workspace_restored": "workspace restored",
  "deployment.container_created": "container made",
  "deployment.container_started": "container started",
  "deployment.checkpoint_saved": "checkpoint saved",
  "deployment.checkpoint_skipped": "checkpoint skipped",
  "deployment.checkpoint_delivered": "checkpoint fetched",
  "deployment.checkpoint_deleted": "checkpoint deleted",
  "deployment.results_saved": "results saved",
  "deployment.results_skipped": "results can't be given",
  "deployment.results_delivered": "results fetched",
  "deployment.results_deleted": "results deleted",
  "deployment.stop_requested": "told to stop",
  "deployment.log_sealed": "output sealed",
  "deployment.container_exited": "container ended",
  "deployment.failed": "failed",
  "deployment.stopped": "stopped",
  "deployment.reward_claimed": "reward claimed",
  "deployment.reward_settled": "reward paid out",
};

/** Unknown events keep their own name; those of another kind, of a job that runs on its requester's node, are left out. */
export function timeline(events: readonly Happening[]): TimelineRow[] {
  const ours = events.filter(({ topic }) => topic.startsWith("deployment."));
  return ours.map(({ position, time, topic, data }, index) => {
    const before = ours[index - 1];
    const seconds = before ? (Date.parse(time) - Date.parse(before.time)) / 1000 : null;
    return { position, time, topic, words: WORDS[topic] ?? topic, note: noteOf(data), seconds };
  });
}

/** A reason, or what else is worth seeing at a glance. */
function noteOf({ reason, exit_code, image, path, name }: Record<string, unknown>): string {
  if (typeof reason === "string" && reason) return reason;
  if (typeof exit_code === "number") return `exit code ${exit_code}`;
  return [image, path, name].find((text): text is string => typeof text === "string" && text !== "") ?? "";
}
