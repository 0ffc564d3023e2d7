/** What a provider's jobs earn: the rule of docs/rewards.md, and sums in exact decimals. */
import { ApiError, failure } from "../../api/client";
import type { Deployment, Transaction } from "../../api/answers";

const PLACES = 8;
const UNIT = 10n ** BigInt(PLACES);

/** Whole smallest units of decimal text; null where it is no amount. */
export function units(text: string): bigint | null {
  const found = /^([0-9]+)(?:\.([0-9]+))?$/.exec(text.trim());
  if (!found) return null;
  const part = (found[2] ?? "").slice(0, PLACES).padEnd(PLACES, "0");
  return BigInt(found[1] ?? "0") * UNIT + BigInt(part);
}

/** Decimal text without trailing zeros. */
export function amountText(value: bigint): string {
  const part = String(value % UNIT).padStart(PLACES, "0").replace(/0+$/, "");
  return part ? `${value / UNIT}.${part}` : String(value / UNIT);
}

export function sum(amounts: readonly string[]): string {
  return amountText(amounts.reduce((total, text) => total + (units(text) ?? 0n), 0n));
}

export const isNothing = (text: string | undefined): boolean => (units(text ?? "") ?? 0n) === 0n;

const SETTLED = ["done", "withdrawn", "refunded", "distributed"];

const isSettled = ({ transaction_type }: Transaction): boolean => SETTLED.includes(transaction_type);

/** Jobs that ran here, earned something, and whose reward nobody asked for yet. */
export function toClaim(transactions: readonly Transaction[]): Transaction[] {
  return transactions.filter(
    (one) => one.role === "compute provider" && one.reward_type !== "" && !one.claimed && !isSettled(one) && (units(one.to_provider) ?? 0n) > 0n,
  );
}

/** What the hash of a payment reads as whose person was erased; no claim can name it any more. */
const ERASED = "erased";
const MOST_NAMED = 5;

/** Claims one after the other, and goes on where one can't be claimed. Throws at the end, with what was not claimed and why. */
export async function claimEach(open: readonly Transaction[], claim: (one: Transaction) => Promise<void>): Promise<void> {
  if (open.length === 0) throw new Error("Nothing was claimed: no reward is left to claim here. It may have been claimed just now.");
  const left: string[] = [];
  for (const one of open) {
    try {
      if (one.tx_hash === ERASED) throw new Error("its payment was erased, so no claim can name it");
      await claim(one);
    } catch (error) {
      if (error instanceof ApiError && [0, 429].includes(error.problem.status)) throw error; // the next one would fare no better
      left.push(`job ${one.job_id}: ${failure(error)}`);
    }
  }
  if (left.length > 0) throw new Error(`${left.length} of ${open.length} not claimed. ${left.slice(0, MOST_NAMED).join("; ")}${left.length > MOST_NAMED ? "; ..." : ""}`);
}

/** What a job earns if it ends by itself with exit code 0, and what its provider has of it when it is stopped by others. */
export interface Expected {
  /** NTX, decimal text. */
  completed: string;
  /** What an end by an error, a stop or the time limit would earn now. */
  cutShort: string;
  rule: string;
}

export function expected(job: Pick<Deployment, "price" | "minutes" | "started_at">, nowMs: number): Expected {
  const ran = job.started_at ? Math.max(0, nowMs - Date.parse(job.started_at)) / 60_000 : 0;
  const percent = ran >= job.minutes * 0.75 ? 75n : ran >= job.minutes * 0.5 ? 50n : 0n;
  const price = units(job.price);
  return {
    completed: price === null ? "" : amountText(price),
    cutShort: price === null ? "" : amountText((price * percent) / 100n),
    rule:
      percent === 0n
        ? "An error, a stop by its requester or the time limit earns nothing before half of its time."
        : `An error, a stop by its requester or the time limit earns ${percent} % now.`,
  };
}

/** Which part of its price a job that is over earned, and what became of it. */
export function rewardWords({ paid, cost, price, claimed, settled }: Pick<Deployment, "paid" | "cost" | "price" | "claimed" | "settled">): string {
  if (!paid || cost === "") return "it was not paid for";
  const [earned, whole] = [units(cost) ?? 0n, units(price) ?? 0n];
  if (earned === 0n) return "nothing: all of the price is owed back";
  const share = earned >= whole ? "all of the price" : `${Number((earned * 100n) / (whole || 1n))} % of the price`;
  return settled ? `${share}, paid out` : claimed ? `${share}, claimed` : `${share}, to claim`;
}
