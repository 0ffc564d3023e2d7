/** Earnings by day or by requester. */
import { ntx, plain, whole } from "../../app/format";
import { useView } from "../../app/view";
import { Peer, Trouble } from "../../components/parts";
import type { Earned, Earnings } from "../../api/answers";
import { EARNING_EVENTS } from "./today";

/** items: where they are known already. */
export function EarnedTable({ by, since, items }: { by: "day" | "peer"; since: string; items?: readonly Earned[] }) {
  return items ? <Rows by={by} items={items} /> : <Asked by={by} since={since} />;
}

function Asked({ by, since }: { by: "day" | "peer"; since: string }) {
  const view = useView<Earnings>("/earnings", { query: { by, role: "compute provider", since, limit: 1000 }, types: EARNING_EVENTS });
  return (
    <>
      <Trouble text={view.error.value} retry={view.reload} />
      <Rows by={by} items={view.answer.value?.body.items ?? []} />
    </>
  );
}

function Rows({ by, items }: { by: "day" | "peer"; items: readonly Earned[] }) {
  return (
    <div class="scroll">
      <table data-testid="earned">
        <thead>
          <tr><th>{by === "day" ? "Day (UTC)" : "Requester"}</th><th class="number">Jobs</th><th class="number">Earned</th><th class="number">To claim</th><th class="number">Claimed</th><th class="number">Paid out</th></tr>
        </thead>
        <tbody>
          {items.map((row) => (
            <tr key={row.group}>
              <td>{by === "peer" ? <Peer id={row.group} /> : plain(row.group)}</td>
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
