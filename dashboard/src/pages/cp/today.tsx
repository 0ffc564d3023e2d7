/** What was earned today, and what can be claimed. */
import { useComputed } from "@preact/signals";
import { counted, ntx } from "../../app/format";
import { href, moment } from "../../app/router";
import { now } from "../../app/clock";
import { useView } from "../../app/view";
import { Action } from "../../components/action";
import { Trouble } from "../../components/parts";
import { ClaimResult, useClaims } from "./claim";
import type { Earnings } from "../../api/answers";
import { midnight, NOTHING_EARNED } from "./earnings_days";
import { isNothing } from "./rewards";

export const EARNING_EVENTS = ["deployment.*", "payment.*"];

export function Today() {
  const since = useComputed(() => midnight(now.value)).value;
  const [today, all] = [useEarned(since), useEarned("")];
  const claims = useClaims();
  const [ofToday, inAll] = [today.answer.value?.body.total ?? NOTHING_EARNED, all.answer.value?.body.total ?? NOTHING_EARNED];
  return (
    <div class="card" data-testid="today">
      <Trouble text={today.error.value || all.error.value} retry={all.reload} />
      <div class="figures sums">
        {!moment.value && <div><b data-testid="earned-today">{ntx(ofToday.earned_ntx)}</b><span>earned today by {counted(ofToday.jobs, "job")}</span></div>}
        <div><b data-testid="to-claim">{ntx(inAll.to_claim_ntx)}</b><span>to claim</span></div>
        <div><b>{ntx(inAll.earned_ntx)}</b><span>earned in all, {ntx(inAll.paid_ntx)} of it paid out</span></div>
      </div>
      <p class="row">
        <Action need="claim rewards and refunds" kind="primary" busy={claims.busy.value} hindrance={isNothing(inAll.to_claim_ntx) ? "There is nothing to claim." : ""} onClick={() => void claims.claim()}>Claim</Action>
        <a href={href("/cp/earnings")}>Earnings by day and job</a>
      </p>
      <ClaimResult claims={claims} />
    </div>
  );
}

/** The sum alone matters here. */
function useEarned(since: string) {
  return useView<Earnings>("/earnings", { query: { role: "compute provider", limit: 1, since }, types: EARNING_EVENTS });
}
