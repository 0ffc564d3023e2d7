/** `/cp/earnings`: what this machine earned, by day, by requester and by job, and what can be claimed. */
import "../../styles/provider.css";
import { useComputed } from "@preact/signals";
import { address } from "../../api/client";
import { counted, ntx, plain } from "../../app/format";
import { href, moment, queryValue, setQuery } from "../../app/router";
import { usePageTitle } from "../../app/title";
import { useView } from "../../app/view";
import { Action } from "../../components/action";
import { DayBars } from "../../components/day_bars";
import { shownMs } from "../../components/history/past";
import { Empty, Trouble } from "../../components/parts";
import { ClaimResult, useClaims } from "./claim";
import type { Earnings } from "../../api/answers";
import { daily, earningsBy, NOTHING_EARNED, sinceDays, type By } from "./earnings_days";
import { EarnedByJob } from "./earned_by_job";
import { EarnedTable } from "./earned_table";
import { isNothing } from "./rewards";
import { EARNING_EVENTS } from "./today";

const PERIODS = [["", "30 days"], ["7", "7 days"], ["365", "a year"], ["all", "all"]] as const;
const GROUPS = [["", "by day"], ["peer", "by requester"], ["job", "by job"], ["gpu", "by GPU"]] as const;
const ROLE = "compute provider";

export function ComputeProviderEarnings() {
  usePageTitle("Earnings");
  const [period, group] = [queryValue("period"), queryValue("by")];
  const since = useComputed(() => sinceDays(daysOf(queryValue("period")), shownMs.value)).value;
  const days = useView<Earnings>("/earnings", { query: { by: "day", role: ROLE, since, limit: 1000, order: "desc" }, types: EARNING_EVENTS });
  const total = days.answer.value?.body.total ?? NOTHING_EARNED;
  const items = days.answer.value?.body.items ?? [];
  return (
    <section>
      <h1>Earnings</h1>
      <ClaimCard />
      <div class="row choices-row">
        <Choice name="Period" query="period" values={PERIODS} chosen={period} />
        <Choice name="Rows" query="by" values={GROUPS} chosen={group} />
        <a class="push" href={csv(group, since)} download>CSV</a>
      </div>
      <Trouble text={days.error.value} retry={days.reload} />
      {days.answer.value && items.length === 0 && (
        <Empty title="Nothing earned in this time">
          <p>A job that was paid for is listed when it is over. {period !== "all" && <button onClick={() => setQuery({ period: "all" })}>Show all</button>}</p>
        </Empty>
      )}
      {items.length > 0 && (
        <div class="card">
          <p class="chart-title"><b>Earned by day (UTC)</b><span data-testid="earned-total">{ntx(total.earned_ntx)} by {counted(total.jobs, "job")}</span></p>
          <DayBars {...bars(items)} label="Earned by day" value={(value) => `${Number(value.toPrecision(3))} NTX`} />
        </div>
      )}
      {items.length > 0 && <div class="card">{rowsOf(group, since, items)}</div>}
    </section>
  );
}

const daysOf = (period: string): number => (period === "all" ? 0 : Number(period || 30));

const bars = (items: Earnings["items"]): { times: number[]; values: number[] } => {
  const { times, earned } = daily(items);
  return { times, values: earned };
};

function rowsOf(group: string, since: string, days: Earnings["items"]) {
  if (group === "peer" || group === "gpu") return <EarnedTable by={group} key={group} since={since} />;
  if (group === "job") return <EarnedByJob />;
  return <EarnedTable by="day" since={since} items={days} />;
}

/** For a spreadsheet. */
function csv(group: string, since: string): string {
  const { path, query } = earningsBy((group || "day") as By);
  return address(path, { ...query, since, as_of: moment.value, format: "csv" });
}

function Choice({ name, query, values, chosen }: { name: string; query: string; values: readonly (readonly [string, string])[]; chosen: string }) {
  return (
    <span role="group" aria-label={name}>
      {values.map(([value, text]) => <button class={value === chosen ? "primary" : "quiet"} aria-pressed={value === chosen} onClick={() => setQuery({ [query]: value })}>{plain(text)}</button>)}
    </span>
  );
}

function ClaimCard() {
  const all = useView<Earnings>("/earnings", { query: { role: ROLE, limit: 1 }, types: EARNING_EVENTS });
  const claims = useClaims();
  const { to_claim_ntx, claimed_ntx, paid_ntx } = all.answer.value?.body.total ?? NOTHING_EARNED;
  return (
    <div class="card" data-testid="claims">
      <div class="figures sums">
        <div><b data-testid="to-claim">{ntx(to_claim_ntx)}</b><span>to claim</span></div>
        <div><b>{ntx(claimed_ntx)}</b><span>claimed, not paid out yet</span></div>
        <div><b>{ntx(paid_ntx)}</b><span>paid out</span></div>
        <Action need="claim rewards and refunds" kind="primary" busy={claims.busy.value} hindrance={isNothing(to_claim_ntx) ? "There is nothing to claim." : ""} onClick={() => void claims.claim()}>Claim all</Action>
      </div>
      <ClaimResult claims={claims} />
      <p class="faint">What a job earns follows from how it ended; <a href={href("/cp/jobs")}>each job</a> says why. A DMS never moves money.</p>
    </div>
  );
}
