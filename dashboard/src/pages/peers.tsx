/** `/peers`: who this node is connected to, and which of them are providers. */
import { send } from "../api/client";
import { counted, cpu, duration, memory, ntx, plain, whole } from "../app/format";
import "../styles/provider.css";
import { useRegularly } from "../app/regularly";
import { usePageTitle } from "../app/title";
import { now } from "../app/clock";
import { useView } from "../app/view";
import { Action, useDoing } from "../components/action";
import { Empty, OnlyNow, Peer, Trouble } from "../components/parts";
import { median, peerRows, type PeerRow } from "./peer_rows";
import type { ConnectedPeer, Provider } from "../api/answers";

/** Connections and their round trips are no events. */
const EVERY_MS = 15_000;

export function Peers() {
  const peers = useView<ConnectedPeer[]>("/peers", { presentOnly: true, types: ["provider.*"] });
  const providers = useView<{ items: Provider[]; next_token: string }>("/providers", { query: { limit: 1000 }, types: ["provider.*", "device.*"] });
  const fallback = useView<{ peer_id: string }>("/peers/depreq", { presentOnly: true, types: ["device.default_provider_changed"] });
  const self = useView<ConnectedPeer>("/peers/self", { presentOnly: true });
  usePageTitle("Peers", peers.answer.value ? String(peers.answer.value.body.length) : "");
  useRegularly(peers.reload, EVERY_MS);
  const connected = peers.answer.value?.body ?? [];
  const rows = peerRows(connected, providers.answer.value?.body.items ?? [], fallback.answer.value?.body.peer_id ?? "");
  const middle = median(connected.map(({ rtt_ms }) => rtt_ms ?? null));
  return (
    <section>
      <h1>Peers</h1>
      <OnlyNow>Connections are as they are now; what the providers offer is as it was at the moment that you look at.</OnlyNow>
      <Trouble text={peers.error.value || providers.error.value} retry={peers.reload} />
      <p>
        {whole(connected.length)} connected{middle !== null && <> (median {middle.toFixed(1)} ms there and back)</>}, {counted(rows.filter(({ provider }) => provider?.online).length, "provider")} online.
        This node: <code class="whole">{plain(self.answer.value?.body.ID ?? "")}</code>
      </p>
      {providers.answer.value?.body.next_token && <p class="faint">There are more providers; the first 1,000 are shown.</p>}
      {rows.length === 0 && peers.answer.value && (
        <Empty title="No peer is connected">
          <p>Peers on the same network are found by themselves; those elsewhere by <code>p2p.bootstrap_peers</code> in the configuration.</p>
        </Empty>
      )}
      {rows.length > 0 && <PeerTable rows={rows} />}
    </section>
  );
}

function PeerTable({ rows }: { rows: readonly PeerRow[] }) {
  const { busy, trouble, run } = useDoing();
  const choose = (peerId: string) => run(async () => void (await (peerId ? send("POST", "/peers/depreq", { peerid: peerId }) : send("DELETE", "/peers/depreq"))));
  return (
    <>
      <Trouble text={trouble.value} />
      <div class="scroll card">
        <table data-testid="peers" class="stack">
          <thead>
            <tr><th>Peer</th><th class="number">Round trip</th><th>Connected</th><th>Provider</th><th>Free</th><th class="number">NTX a minute</th><th>Gets jobs that name none</th></tr>
          </thead>
          <tbody>
            {rows.map((row) => <PeerTableRow key={row.peerId} row={row} busy={busy.value} choose={(peerId) => void choose(peerId)} />)}
          </tbody>
        </table>
      </div>
    </>
  );
}

function PeerTableRow({ row, busy, choose }: { row: PeerRow; busy: boolean; choose: (peerId: string) => void }) {
  const { provider, connected } = row;
  const since = connected?.since ? (now.value - Date.parse(connected.since)) / 1000 : null;
  return (
    <tr>
      <td><Peer id={row.peerId} />{row.own && " (this node)"}</td>
      <td class="number" data-label="Round trip">{connected?.rtt_ms == null ? "–" : `${connected.rtt_ms.toFixed(1)} ms`}</td>
      <td data-label="Connected">{row.own ? "–" : !connected ? "no" : since === null ? "yes" : `for ${duration(Math.max(0, Math.floor(since)))}`}</td>
      <td data-label="Provider">{!provider ? <span class="none">no</span> : provider.online ? "✔ takes jobs" : `⚠ offline${provider.hindrance ? `: ${plain(provider.hindrance)}` : ""}`}</td>
      <td data-label="Free">{provider ? `${cpu(provider.free.cpu_mhz)}, ${memory(provider.free.memory_mb)}${gpusOf(provider)}` : "–"}</td>
      <td class="number" data-label="NTX a minute">{provider ? ntx(provider.ntx_price).replace(" NTX", "") : "–"}</td>
      <td>
        {row.isDefault && <b>default </b>}
        {row.isDefault && <Action need="administer" busy={busy} label="Clear the default provider" onClick={() => choose("")}>Clear</Action>}
        {!row.isDefault && provider && !row.own && <Action need="administer" busy={busy} label={`Make default: ${row.peerId}`} onClick={() => choose(row.peerId)}>Make default</Action>}
      </td>
    </tr>
  );
}

function gpusOf({ gpus }: Provider): string {
  const free = gpus.filter(({ taken }) => !taken);
  return gpus.length === 0 ? "" : `, ${free.length} of ${gpus.length} ${gpus.length === 1 ? "GPU" : "GPUs"}`;
}
