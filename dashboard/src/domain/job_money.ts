/**
 * What a job costs, by the rule of docs/rewards.md: a job that completed earns its provider the whole price; one that ended
 * otherwise nothing before half of its minutes, then 50 %, and 75 % from three quarters on; a provider's own fault earns it
 * nothing. Amounts are decimal texts with at most 8 places, computed in whole smallest units.
 */
import { ntx } from "../app/format";

const PLACES = 8;
const UNIT = 10n ** BigInt(PLACES);

/** cost: what its provider gets; empty until a job that was paid for is over. */
export interface Billed {
  status: string;
  price: string;
  minutes: number;
  paid: boolean;
  cost: string;
  refund: boolean;
}

/** percent: of the price, for the provider. */
export interface Share {
  percent: number;
  cost: string;
}

export function units(amount: string): bigint {
  const [whole = "0", part = ""] = amount.split(".");
  if (!/^\d+$/.test(whole) || !/^\d*$/.test(part)) return 0n;
  return BigInt(whole) * UNIT + BigInt(part.slice(0, PLACES).padEnd(PLACES, "0"));
}

export function amount(ofUnits: bigint): string {
  const [whole, part] = [ofUnits / UNIT, (ofUnits % UNIT).toString().padStart(PLACES, "0").replace(/0+$/, "")];
  return part ? `${whole}.${part}` : String(whole);
}

const shareOf = (price: string, percent: number): Share => ({ percent, cost: amount((units(price) * BigInt(percent)) / 100n) });

/** What a run that did not complete earns after so many seconds. */
export function percentAfter(seconds: number, minutes: number): number {
  const asked = 60 * Math.max(1, minutes);
  return seconds * 4 >= asked * 3 ? 75 : seconds * 2 >= asked ? 50 : 0;
}

/** Were it stopped after so many seconds. */
export const ifStopped = (job: Pick<Billed, "price" | "minutes">, seconds: number): Share => shareOf(job.price, percentAfter(seconds, job.minutes));

/** When a stop begins to cost more: seconds after its start, and the share then. Null: it does not any more. */
export function nextShare(minutes: number, seconds: number): { atSeconds: number; percent: number } | null {
  const asked = 60 * Math.max(1, minutes);
  const steps = [{ atSeconds: asked / 2, percent: 50 }, { atSeconds: (asked * 3) / 4, percent: 75 }];
  return steps.find(({ atSeconds }) => seconds < atSeconds) ?? null;
}

/** What happens to the money, in a sentence. seconds: that it has run so far, where it runs. */
export function moneyText(job: Billed, seconds = 0): string {
  const whole = ntx(job.price);
  switch (job.status) {
    case "awaiting": return `Nothing is paid yet. The job costs ${whole} at most.`;
    case "funding": return `Your payment of ${whole} is being checked. Nothing runs, and nobody earns anything, before it is found good.`;
    case "submitted": return `${whole} are paid. If the job never starts, all of it is owed back to you.`;
    case "retrying": return `${whole} are paid, and go on to the next provider with the job. The attempt that failed earns nothing.`;
    case "running": return whileRunning(job, seconds);
    case "expired": return "Nothing was paid for this job. A payment that came later is unused, and can pay for a new request.";
    default: return afterEnd(job);
  }
}

function whileRunning(job: Billed, seconds: number): string {
  const { cost, percent } = ifStopped(job, seconds);
  const now = percent === 0 ? "Stopped now it costs nothing" : `Stopped now it costs ${ntx(cost)}`;
  return `${now}; completed it costs ${ntx(job.price)}. A fault of the provider costs you nothing.`;
}

function afterEnd(job: Billed): string {
  const whole = ntx(job.price);
  if (!job.paid) return "No payment was accepted for this job. One that was made all the same can pay for a new request.";
  if (job.refund) return `It was paid and never ran: all ${whole} are owed back to you. In place of that, the payment can pay for another job.`;
  if (job.cost === "") return "The job is over; what it cost follows.";
  const back = units(job.price) - units(job.cost);
  if (back === 0n) return `The provider has earned all of it: ${whole}.`;
  if (units(job.cost) === 0n) return `The provider earns nothing: all ${whole} are owed back to you.`;
  return `${ntx(job.cost)} are the provider's, ${ntx(amount(back))} are owed back to you.`;
}
