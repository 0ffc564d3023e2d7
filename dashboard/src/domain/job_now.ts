/** A job as it is at present, in sentences: what it does, why, whose fault a bad end was, and what comes next. */
import { moneyText, type Billed } from "./job_money";

export interface Present extends Billed {
  peer: string;
  unreachable: boolean;
  reason: string;
  fault: string;
  exit_code: number | null;
  attempt: number;
  attempts: number;
  log_lines: number | null;
}

export interface Now {
  headline: string;
  /** Whose fault a bad end was; empty for none, or for a job that is not over. */
  fault: string;
  money: string;
  next: string;
}

export const isOver = (status: string): boolean => OVER.includes(status);
const OVER = ["completed", "failed", "stopped", "expired", "rejected"];

/** Those of the service provider's jobs that are not over. */
export const OPEN = ["awaiting", "funding", "submitted", "retrying", "running"] as const;

const FAULTS: Record<string, string> = {
  requester: "This was up to the request: its image, its command, its limits, or its payment.",
  provider: "The provider is at fault, not the job.",
  network: "The line to the provider is at fault, not the job.",
  job: "The job itself ended with an error.",
};

/** seconds: that it has run, where it runs. stopping: a stop was asked for. */
export function now(job: Present, seconds = 0, stopping = false): Now {
  const money = moneyText(job, seconds);
  if (stopping && job.status === "failed" && job.fault === "requester") return { headline: stoppedWords(job.reason), fault: "", money, next: "Run it again when you like, as it was or with edits." };
  return { headline: headline(job, stopping), fault: isOver(job.status) ? (FAULTS[job.fault] ?? "") : "", money, next: next(job, stopping) };
}

/** The API has it as failed, by its requester: who looks at it has stopped it. */
const stoppedWords = (reason: string): string => `You stopped the job${reason && reason !== NO_REASON ? `: ${reason}` : ""}.`;
const NO_REASON = "terminated by its owner";

function headline(job: Present, stopping: boolean): string {
  const because = job.reason ? `: ${job.reason}` : "";
  if (job.unreachable && !isOver(job.status)) return `The provider does not answer${because}. The job may run on; it is waited for.`;
  if (stopping && !isOver(job.status)) return "The job was told to stop; its provider has not ended it yet.";
  switch (job.status) {
    case "awaiting": return "The job is quoted, and waits for its payment.";
    case "funding": return job.reason ? `The payment is not confirmed yet${because}.` : "The payment is being checked.";
    case "submitted": return job.reason ? `The provider has the job, and waits${because}.` : "The provider has the job, and makes it ready.";
    case "running": return job.attempts > 1 && job.attempt > 1 ? `The job is running, at attempt ${job.attempt} of ${job.attempts}.` : "The job is running.";
    case "retrying": return `An attempt failed${because.replace(": tried again", "")}. Another provider is looked for.`;
    case "completed": return "The job completed.";
    case "expired": return `The job was never paid for${because}.`;
    default: return `The job ${job.status === "stopped" ? "was stopped" : "failed"}${because}.`;
  }
}

function next(job: Present, stopping: boolean): string {
  if (stopping && !isOver(job.status)) return "Wait for the provider's word; nothing else is to be done.";
  switch (job.status) {
    case "awaiting": return "Pay, then report the payment below.";
    case "funding": return "Wait for the payment to be confirmed; nothing else is to be done.";
    case "submitted": return "Wait for the container to start: its image and inputs are fetched first.";
    case "running": return job.unreachable ? "Wait, or stop it: then it ends as soon as its provider answers." : "Watch its output, or stop it.";
    case "retrying": return "Wait for the next provider, or stop it.";
    case "completed": return "Look at its results and output.";
    case "expired": return "Ask for it again: it is quoted anew.";
    default: return job.fault === "provider" || job.fault === "network" ? "Run it again; several attempts let it go to another provider by itself." : lookInto(job);
  }
}

function lookInto(job: Present): string {
  if (job.fault === "job" || job.log_lines) return "Look at the end of its output, then run it again with what has to change.";
  return "Run it again with what has to change.";
}
