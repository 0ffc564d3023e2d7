/** What an event changes in a job's row at once, before the view that has counted it in is asked again. As `projections/jobs.py`. */
import { topicOf, type LogEvent } from "../live/protocol";

/** The fields that are patched; a row of the API has more. */
export interface PatchedRow {
  job_id: string;
  status: string;
  peer: string;
  unreachable: boolean;
  started_at: string | null;
  ended_at: string | null;
  exit_code: number | null;
  fault: string;
  duration_seconds: number;
  refund: boolean;
  paid: boolean;
  minutes: number;
  attempt: number;
  log_lines: number | null;
  position: number;
}

type Change = Partial<PatchedRow>;
type Data = Record<string, unknown>;

const becomes = (status: string) => (): Change => ({ status });
const ends = (status: string) => (data: Data, time: string): Change => ({
  status,
  ended_at: time,
  fault: String(data["fault"] ?? ""),
  exit_code: status === "completed" ? 0 : ((data["exit_code"] as number | undefined) ?? null),
  duration_seconds: Number(data["duration_seconds"] ?? 0),
  refund: data["refund"] === true,
});

const CHANGES: Record<string, (data: Data, time: string) => Change> = {
  "job.fund_status_reported": (data) => (data["transaction_status"] === "success" ? { status: "funding" } : {}),
  "job.funding_accepted": () => ({ paid: true }),
  "job.submitted": becomes("submitted"),
  "job.deployment_responded": (data, time) => (data["success"] === true ? { status: "running", started_at: time } : {}),
  "job.provider_unreachable": () => ({ unreachable: true }),
  "job.provider_returned": () => ({ unreachable: false }),
  "job.log_sealed": (data) => ({ log_lines: Number(data["lines"] ?? 0) }),
  "job.attempt_failed": () => ({ status: "retrying", unreachable: false }),
  "job.attempt_started": (data) => ({ status: "submitted", attempt: Number(data["attempt"]), peer: String(data["provider"]), minutes: Number(data["minutes"]) }),
  "job.completed": ends("completed"),
  "job.failed": ends("failed"),
  "job.expired": ends("expired"),
};

export const jobOf = (event: Pick<LogEvent, "subject">): string => event.subject.replace(/^(job|deployment)-/, "");

/** The row after the event; the same one when it says nothing of it, or was counted in already. */
export function patched<Row extends PatchedRow>(row: Row, event: LogEvent): Row {
  if (event.position <= row.position || jobOf(event) !== row.job_id) return row;
  const change = CHANGES[topicOf(event)]?.(event.data, event.time);
  return change ? { ...row, ...change, position: event.position } : row;
}
