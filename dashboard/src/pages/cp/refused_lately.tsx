/** What peers wanted of this machine of late, and why they did not get it: also what was refused before any payment. */
import type { RefusedPeer } from "../../api/answers";
import { counted, plain } from "../../app/format";
import { useRegularly } from "../../app/regularly";
import { useView } from "../../app/view";
import { Peer, Time, Trouble } from "../../components/parts";

/** A refusal before payment is no event. */
const EVERY_MS = 10_000;

export function RefusedLately() {
  const refused = useView<{ items: RefusedPeer[] }>("/device/refusals", { presentOnly: true, types: ["deployment.rejected", "device.*"] });
  useRegularly(refused.reload, EVERY_MS);
  const items = refused.answer.value?.body.items ?? [];
  return (
    <div class="card" data-testid="refused">
      <h2>Refused of late</h2>
      <Trouble text={refused.error.value} retry={refused.reload} />
      {items.length === 0 && <p class="faint">Nothing was refused since the DMS was started.</p>}
      {items.length > 0 && (
        <div class="scroll">
          <table>
            <thead><tr><th>Last</th><th>Peer</th><th>About</th><th>Why</th><th class="number">How often</th></tr></thead>
            <tbody>
              {items.map((one) => (
                <tr key={`${one.peer_id} ${one.kind} ${one.reason}`}>
                  <td><Time at={one.last_at} /></td>
                  <td><Peer id={one.peer_id} /></td>
                  <td>{plain(one.kind)}</td>
                  <td>{plain(one.reason)}</td>
                  <td class="number">{counted(one.count, "time")}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}
