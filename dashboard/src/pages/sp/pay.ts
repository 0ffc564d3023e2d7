/** Reports a payment over the websocket of jobs (`send-status`), and says in words what came of it. */
import type { Session } from "../../api/answers";
import { API, ApiError, failure, get, toLogin } from "../../api/client";
import { whyNotYou } from "../../app/acting";
import { session } from "../../app/session";

/** good: it was taken. final: nothing more is told here; the job's events go on. */
export interface Told {
  good: boolean;
  final: boolean;
  text: string;
}

interface Action {
  action: string;
  message?: unknown;
}

const PATIENCE_MS = 30_000;

/** Calls `tell` with each outcome. Returns what ends it; the report itself stands once it was sent. */
export function reportPayment(jobId: string, txHash: string, tell: (told: Told) => void, open = (url: string): WebSocket => new WebSocket(url, "dms.actions.v2")): () => void {
  const socket = open(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${API}/run/deploy?actions=all`);
  let [sent, over] = [false, false];
  const finish = (told: Told) => {
    if (over) return;
    over = true;
    clearTimeout(late);
    tell(told);
    socket.close();
  };
  const late = setTimeout(() => finish({ good: false, final: true, text: sent ? UNSURE : NOT_SENT }), PATIENCE_MS);
  socket.onopen = () => {
    socket.send(JSON.stringify({ action: "send-status", message: { transaction_type: "fund", transaction_status: "success", tx_hash: txHash, job_id: jobId } }));
    sent = true;
    tell({ good: true, final: false, text: "The payment is reported; it is being checked." });
  };
  socket.onmessage = ({ data }: MessageEvent<string>) => {
    const told = outcomeOf(JSON.parse(data) as Action);
    if (told?.final) finish(told);
    else if (told && !over) tell(told);
  };
  socket.onclose = () => {
    if (sent) finish({ good: false, final: true, text: UNSURE });
    else if (!over) void whyNotSent().then((text) => finish({ good: false, final: true, text }));
  };
  return () => {
    over = true;
    clearTimeout(late);
    socket.close();
  };
}

const UNSURE = "The DMS did not say what came of it. If the job still waits for its payment, report the same hash again: it is counted once.";
const NOT_SENT = "The DMS can't be reached: the payment was not reported. Try again; the hash is counted once.";
const REFUSED = "The DMS took no connection for the report just now, as it does when it has too many: the payment was not reported. Try again in a moment; the hash is counted once.";

/** A browser does not say how a websocket was refused, so the DMS is asked who this is. */
async function whyNotSent(): Promise<string> {
  try {
    session.value = (await get<Session>("/session")).body;
    if (session.value.role === null) toLogin();
    const why = whyNotYou("ask for jobs");
    return why ? `The payment was not reported. ${why}` : REFUSED;
  } catch (error) {
    return error instanceof ApiError && error.problem.status === 0 ? NOT_SENT : `The payment was not reported. ${failure(error)}`;
  }
}

/** Null: says nothing of the payment. */
export function outcomeOf({ action, message }: Action): Told | null {
  const text = typeof message === "string" ? message : "";
  switch (action) {
    case "error": return { good: false, final: true, text: `The report was refused: ${text}` };
    case "funding-pending": return { good: true, final: false, text: `The payment is not confirmed yet: ${text}` };
    case "job-submitted": return { good: true, final: true, text: "The payment is good, and the provider has the job." };
    case "deployment-response": return { good: true, final: true, text: "The job runs." };
    case "job-completed": return { good: true, final: true, text: "The job completed." };
    case "job-failed": return { good: false, final: true, text: `The job failed: ${text}` };
    default: return null;
  }
}
