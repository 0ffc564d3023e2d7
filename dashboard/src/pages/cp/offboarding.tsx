/** Taking the machine off the network, with what that means told before. */
import { useSignal } from "@preact/signals";
import { send } from "../../api/client";
import { whyNoActions } from "../../app/acting";
import { Action, useDoing } from "../../components/action";
import { Dialog } from "../../components/dialog";
import { Trouble } from "../../components/parts";

export function Offboarding({ running }: { running: number }) {
  const asking = useSignal(false);
  return (
    <div class="card" data-testid="offboarding">
      <h2>Offboard</h2>
      <p>Withdraws this machine: it is offered to nobody and takes no jobs until it is onboarded again. To pause for a while, switch it offline instead.</p>
      <Action kind="danger" onClick={() => (asking.value = true)}>Offboard…</Action>
      {asking.value && <OffboardDialog running={running} close={() => (asking.value = false)} />}
    </div>
  );
}

function OffboardDialog({ running, close }: { running: number; close: () => void }) {
  const force = useSignal(false);
  const { busy, trouble, run } = useDoing();
  const needed = running > 0 && !force.value;
  const hindrance = whyNoActions.value || (needed ? "Jobs run here: wait for them, or say that they go on." : busy.value ? "It is under way." : "");
  const offboard = async () => {
    if (await run(async () => void (await send("POST", "/onboarding/offboard", { force: running > 0 && force.value })))) close();
  };
  return (
    <Dialog title="Offboard this machine?" confirm="Offboard" danger hindrance={hindrance} onConfirm={() => void offboard()} onCancel={close}>
      <ul>
        <li>Peers are told that its offer is withdrawn; no further job comes.</li>
        <li>{running > 0 ? `${running} running ${running === 1 ? "job goes" : "jobs go"} on to the end, and what they earn stays yours.` : "No job runs here just now."}</li>
        <li>Rewards can be claimed later as well; the history stays, and so does this node’s identity.</li>
        <li>What you chose (resources, price, address) has to be chosen again when you come back; the lists of images and peers stay.</li>
      </ul>
      {running > 0 && (
        <label><input type="checkbox" checked={force.value} onChange={(event) => (force.value = event.currentTarget.checked)} /> Offboard although jobs run here</label>
      )}
      <Trouble text={trouble.value} />
    </Dialog>
  );
}
