/** A job's events as steps that took time: what was done, for how long, and how it ended. */

/** As the history and the live stream have it. time: ISO 8601. */
export interface Happening {
  position: number;
  time: string;
  topic: string;
  data: Record<string, unknown>;
}

/** past: a failure that the job has got over, such as of an attempt that was repeated. */
export type Tone = "done" | "going" | "failed" | "past" | "gap";

/** from, to: Unix milliseconds; to is null while it goes on. at: the position of the event that began it. */
export interface Step {
  key: string;
  name: string;
  note: string;
  tone: Tone;
  from: number;
  to: number | null;
  at: number;
  attempt: number;
}

export interface Timeline {
  steps: Step[];
  /** Whether a stop was asked for. */
  stopping: boolean;
  over: boolean;
  attempt: number;
}

const GAP_MS = 1000;

/** Whether time still adds to it. What a job leaves is fetched when it is over. */
export const ticks = ({ over, steps }: Timeline): boolean => !over || steps.some(({ to }) => to === null);

/** happenings: all of one job, in the order of their positions. */
export function timelineOf(happenings: readonly Happening[]): Timeline {
  const fold = new Fold();
  for (const one of happenings) fold.take(one);
  return { steps: withGaps(fold.steps), stopping: fold.stopping, over: fold.over, attempt: fold.attempt };
}

class Fold {
  readonly steps: Step[] = [];
  stopping = false;
  over = false;
  attempt = 1;

  take({ topic, data, time, position }: Happening): void {
    const at = Date.parse(time);
    this.now = at;
    this.position = position;
    const what = HANDLERS[topic];
    if (what) what(this, data);
    else if (!SILENT.has(topic)) this.moment(topic, topic, "");
  }

  begin(key: string, name: string, note = ""): void {
    this.steps.push({ key, name, note, tone: "going", from: this.now, to: null, at: this.position, attempt: this.attempt });
  }

  /** The newest of that key that goes on. */
  end(key: string, tone: Tone = "done", note?: string): void {
    const step = this.steps.findLast((one) => one.key === key && one.to === null);
    if (!step) return;
    [step.to, step.tone] = [this.now, tone];
    if (note !== undefined) step.note = note;
  }

  note(key: string, note: string): void {
    const step = this.steps.findLast((one) => one.key === key && one.to === null);
    if (step) step.note = note;
  }

  moment(key: string, name: string, note = "", tone: Tone = "done"): void {
    this.steps.push({ key, name, note, tone, from: this.now, to: this.now, at: this.position, attempt: this.attempt });
  }

  /** Of the job, or of an attempt: whatever goes on ends with it, but for what is fetched of it afterwards. */
  close(tone: Tone): void {
    for (const step of this.steps) if (step.to === null && !step.key.startsWith("after.")) [step.to, step.tone] = [this.now, tone];
  }

  private now = 0;
  private position = 0;
}

type Data = Record<string, unknown>;
const text = (data: Data, name: string): string => String(data[name] ?? "");
const inputKey = (data: Data): string => `input.${text(data, "number")}`;
const size = (data: Data): number => Number(data["size_bytes"] ?? 0);
const sized = (bytes: number): string => (bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

const HANDLERS: Record<string, (fold: Fold, data: Data) => void> = {
  "job.service_requested": (fold, data) => {
    fold.moment("asked", "Asked and quoted", `${text(data, "price")} NTX`);
    fold.begin("payment", "Waits for its payment");
  },
  "job.fund_status_reported": (fold, data) => {
    if (data["transaction_status"] !== "success") return fold.note("payment", `reported as ${text(data, "transaction_status")}`);
    fold.end("payment");
    fold.begin("check", "Payment is checked");
  },
  "job.funding_pending": (fold, data) => fold.note(fold.steps.some((one) => one.key === "ready" && one.to === null) ? "ready" : "check", text(data, "reason")),
  "job.funding_accepted": (fold) => fold.end("check"),
  "job.funding_rejected": (fold, data) => fold.end("check", "failed", text(data, "reason")),
  "job.submitted": (fold) => fold.begin("ready", "Provider makes it ready"),
  "job.provider_reported": (fold, data) => ofProvider(fold, (data["record"] ?? {}) as Data),
  "job.input_started": (fold, data) => fold.begin(inputKey(data), `Input ${text(data, "number")} is fetched`, text(data, "path")),
  "job.input_done": (fold, data) => fold.end(inputKey(data), "done", `${text(data, "path")}, ${sized(size(data))}${data["cached"] ? ", the provider had it" : ""}`),
  "job.input_failed": (fold, data) => fold.end(inputKey(data), "failed", text(data, "reason")),
  "job.deployment_responded": (fold, data) => {
    if (data["success"] !== true) return fold.end("ready", "failed", text(data, "content"));
    fold.end("container");
    fold.end("ready");
    fold.begin("run", "Runs");
  },
  "job.provider_unreachable": (fold, data) => fold.begin("away", "Provider does not answer", text(data, "reason")),
  "job.provider_returned": (fold) => fold.end("away", "past"),
  "job.provider_misbehaved": (fold, data) => fold.moment("misbehaved", "Provider broke the protocol", text(data, "reason"), "past"),
  "job.checkpoint_offered": (fold, data) => fold.begin(`after.checkpoint.${text(data, "number")}`, `Checkpoint ${text(data, "number")} is fetched`, sized(size(data))),
  "job.checkpoint_received": (fold, data) => fold.end(`after.checkpoint.${text(data, "number")}`, "done", `${sized(size(data))} are here`),
  "job.checkpoint_lost": (fold, data) => fold.end(`after.checkpoint.${text(data, "number")}`, "past", text(data, "reason")),
  "job.results_offered": (fold, data) => fold.begin("after.results", "Results are fetched", sized(size(data))),
  "job.results_received": (fold, data) => fold.end("after.results", "done", `${sized(size(data))} are here`),
  "job.results_lost": (fold, data) => {
    if (fold.steps.some((one) => one.key === "after.results" && one.to === null)) fold.end("after.results", "past", text(data, "reason"));
    else fold.moment("after.results", "No results", text(data, "reason"), "past");
  },
  "job.results_removed": (fold, data) => fold.moment("removed", "Results were removed", text(data, "reason")),
  "job.termination_requested": (fold, data) => {
    fold.stopping = true;
    fold.begin("stop", "Told to stop", text(data, "reason"));
  },
  "job.attempt_failed": (fold, data) => {
    fold.close("past");
    fold.moment("attempt.failed", `Attempt ${text(data, "attempt")} failed`, text(data, "reason"), "past");
    fold.begin("search", "Next provider is looked for");
  },
  "job.attempt_started": (fold, data) => {
    fold.end("search");
    fold.attempt = Number(data["attempt"]);
    fold.begin("ready", "Provider makes it ready", `attempt ${fold.attempt}`);
  },
  "job.completed": (fold) => ended(fold, "Completed", "", "done"),
  "job.failed": (fold, data) => ended(fold, "Failed", text(data, "reason"), "failed"),
  "job.expired": (fold, data) => ended(fold, "Expired", text(data, "reason"), "failed"),
  "job.reward_claimed": (fold) => fold.moment("claimed", "Reward claimed"),
  "job.reward_settled": (fold) => fold.moment("settled", "Reward paid out"),
  "job.telling_given_up": (fold, data) => fold.moment("told", "Provider could not be told of the end", text(data, "reason"), "past"),
};

/** What only others act on. */
const SILENT = new Set(["job.log_sealed", "job.provider_told"]);

function ended(fold: Fold, name: string, note: string, tone: Tone): void {
  fold.end("stop");
  fold.close(tone);
  fold.moment("end", name, note, tone);
  fold.over = true;
}

/** The provider's own records tell what it does between taking the job and starting it. */
function ofProvider(fold: Fold, record: Data): void {
  switch (text(record, "topic")) {
    case "deployment.accepted": return fold.begin("image", "Image is fetched");
    case "deployment.image_pulled": return fold.end("image");
    case "deployment.container_created": return fold.begin("container", "Container starts");
  }
}

/** A row for each time of more than a second in which no step went on, until the job was over. */
function withGaps(steps: readonly Step[]): Step[] {
  const ordered = [...steps].sort((a, b) => a.from - b.from || a.at - b.at);
  const found: Step[] = [];
  let reached: number | null = null;
  for (const step of ordered) {
    if (reached !== null && step.from - reached > GAP_MS) {
      found.push({ key: "gap", name: "Nothing was recorded", note: "", tone: "gap", from: reached, to: step.from, at: step.at, attempt: step.attempt });
    }
    found.push(step);
    reached = step.key === "end" ? Number.POSITIVE_INFINITY : Math.max(reached ?? 0, step.to ?? Number.POSITIVE_INFINITY);
  }
  return found;
}
