/** What was earned today, and what can be claimed. */
import { href, moment } from "../../app/router";
import { ntx, whole } from "../../app/format";
import { useView } from "../../app/view";
import { Action } from "../../components/action";
import { Trouble } from "../../components/parts";
import { ClaimResult, useClaims } from "./claim";
import { isSettled, sum, toClaim } from "./rewards";
import type { Transaction } from "./types";

export const REWARD_EVENTS = ["deployment.*", "payment.*"];

export function useTransactions() {
  return useView<Transaction[]>("/transactions", { types: REWARD_EVENTS });
}

export function Today() {
  const transactions = useTransactions();
  const ours = (transactions.answer.value?.body ?? []).filter(({ role }) => role === "compute provider");
  const [today, open] = [ours.filter(endedToday), toClaim(ours)];
  const claims = useClaims();
  return (
    <div class="card" data-testid="today">
      <Trouble text={transactions.error.value} retry={transactions.reload} />
      <div class="figures">
        <div><b data-testid="earned-today">{ntx(sum(today.map(({ to_provider }) => to_provider)))}</b><span>earned {moment.value ? "that day" : "today"}, {whole(today.length)} jobs ended</span></div>
        <div><b data-testid="to-claim">{ntx(sum(open.map(({ to_provider }) => to_provider)))}</b><span>to claim, of {whole(open.length)} jobs</span></div>
        <div><b>{ntx(sum(ours.filter(isSettled).map(({ to_provider }) => to_provider)))}</b><span>paid out so far</span></div>
      </div>
      <p class="row">
        <Action kind="primary" busy={claims.busy.value} hindrance={open.length ? "" : "There is nothing to claim."} onClick={() => void claims.claim(open)}>Claim</Action>
        <a href={href("/cp/earnings")}>Earnings by day and job</a>
      </p>
      <ClaimResult claims={claims} />
    </div>
  );
}

/** In the viewer's own day; of the past: of the day of the newest end then. */
function endedToday({ ended_at }: Transaction, _index: number, all: Transaction[]): boolean {
  if (!ended_at) return false;
  const newest = moment.value ? Math.max(...all.map((one) => Date.parse(one.ended_at ?? "") || 0)) : Date.now();
  return new Date(ended_at).toDateString() === new Date(newest).toDateString();
}
