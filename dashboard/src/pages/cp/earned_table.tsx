/** Earnings by day, by requester or by GPU. */
import { ntx, plain, whole } from "../../app/format";
import { useView } from "../../app/view";
import { Peer, Trouble } from "../../components/parts";
import type { Earned, Earnings } from "../../api/answers";
import { earningsBy, type By } from "./earnings_days";
import { EARNING_EVENTS } from "./today";

const HEADS: Readonly<Record<Exclude<By, "job">, string>> = { day: "Day (UTC)", peer: "Requester", gpu: "GPU" };
/** As the API names the group of all jobs without one. */
const NO_GPU = "none";

/** items: where they are known already. */
export function EarnedTable({ by, since, items }: { by: keyof typeof HEADS; since: string; items?: readonly Earned[] }) {
  return items ? <Rows by={by} items={items} /> : <Asked by={by} since={since} />;
}

function Asked({ by, since }: { by: keyof typeof HEADS; since: string }) {
  const { path, query } = earningsBy(by);
  const view = useView<Pick<Earnings, "items">>(path, { query: { ...query, since, limit: 1000 }, types: EARNING_EVENTS });
  return (
    <>
      <Trouble text={view.error.value} retry={view.reload} />
      <Rows by={by} items={view.answer.value?.body.items ?? []} />
      {by === "gpu" && <p class="faint">A job with several cards counts for each, and they share equally what it earned.</p>}
    </>
  );
}

function Rows({ by, items }: { by: keyof typeof HEADS; items: readonly Earned[] }) {
  return (
    <div class="scroll">
      <table data-testid="earned">
        <thead>
          <tr><th>{HEADS[by]}</th><th class="number">Jobs</th><th class="number">Earned</th><th class="number">To claim</th><th class="number">Claimed</th><th class="number">Paid out</th></tr>
        </thead>
        <tbody>
          {items.map((row) => (
            <tr key={row.group}>
              <td><Group by={by} name={row.group} /></td>
              <td class="number">{whole(row.jobs)}</td>
              <td class="number">{ntx(row.earned_ntx)}</td>
              <td class="number">{ntx(row.to_claim_ntx)}</td>
              <td class="number">{ntx(row.claimed_ntx)}</td>
              <td class="number">{ntx(row.paid_ntx)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Group({ by, name }: { by: keyof typeof HEADS; name: string }) {
  if (by === "peer") return <Peer id={name} />;
  if (by === "gpu") return name === NO_GPU ? <>jobs without a GPU</> : <code>{plain(name)}</code>;
  return <>{plain(name)}</>;
}
