/** The terms of quotes that this tab was given: what the log does not have of them, for the payment step. */
import { store, stored } from "../../app/stored";
import type { Quote } from "../../api/answers";

const STORED = "dms.quotes";
const MOST_KEPT = 20;

export function keepQuote(quote: Quote): void {
  const others = all().filter(({ job_id }) => job_id !== quote.job_id);
  store("sessionStorage", STORED, JSON.stringify([quote, ...others].slice(0, MOST_KEPT)));
}

export const quoteOf = (jobId: string): Quote | null => all().find(({ job_id }) => job_id === jobId) ?? null;

function all(): Quote[] {
  try {
    const found: unknown = JSON.parse(stored("sessionStorage", STORED) ?? "[]");
    return Array.isArray(found) ? (found as Quote[]) : [];
  } catch {
    return [];
  }
}
