/** Running several jobs again: each is priced first, and asked for only then. */
import { ApiError, askProviders, failure, get } from "../../api/client";
import type { DryRun, Quote, RequestAgain } from "../../api/answers";
import { ntx } from "../../app/format";
import { amount, units } from "../../domain/job_money";
import { decimal } from "../../app/format";
import { keepQuote } from "./quotes";

/** Providers are asked for each, and each is paid by hand. */
export const MOST_AGAIN = 20;

/** ready: can be asked for; price: what it costs at most now. */
export type Outlook =
  | { state: "asking" }
  | { state: "ready"; request: RequestAgain["request"]; price: string; provider: string }
  | { state: "refused"; why: string }
  | { state: "asked"; quote: Quote };

/** What came of one job would be answered with now. Throws only when the question itself was given up. */
export async function outlookOf(jobId: string, ended: AbortSignal): Promise<Outlook> {
  try {
    const { body } = await get<RequestAgain>(`/jobs/${encodeURIComponent(jobId)}/request`, { personal: true }, ended);
    if (body.secrets.length > 0) return { state: "refused", why: `The values of its secrets (${body.secrets.join(", ")}) are not kept: run it again by itself, and type them.` };
    const found = await askProviders<DryRun>("/run/request-service/dry-run", body.request, ended);
    const chosen = found.candidates.find((candidate) => candidate.chosen);
    return { state: "ready", request: body.request, price: decimal(chosen?.price ?? found.estimated_price), provider: chosen?.peer_id ?? "" };
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    return { state: "refused", why: failure(problem) };
  }
}

/** From then on a provider keeps a place for it, and it waits for its payment. */
async function asked(request: RequestAgain["request"]): Promise<Outlook> {
  try {
    return { state: "asked", quote: await askProviders<Quote>("/run/request-service", request) };
  } catch (problem) {
    return { state: "refused", why: failure(problem) };
  }
}

/** One after the other, each by all providers. What is on its way when it is ended is waited for: it can't be taken back. */
export async function askAll(jobs: Iterable<readonly [jobId: string, request: RequestAgain["request"]]>, ended: AbortSignal, put: (jobId: string, outlook: Outlook) => void): Promise<void> {
  for (const [jobId, request] of jobs) {
    if (ended.aborted) return;
    const outcome = await asked(request);
    if (outcome.state === "asked") keepQuote(outcome.quote);
    put(jobId, outcome);
  }
}

/** "0.40 NTX", of those that can be asked for. */
export function sumOf(all: Iterable<Outlook>): string {
  let sum = 0n;
  for (const one of all) if (one.state === "ready") sum += units(one.price);
  return ntx(amount(sum));
}
