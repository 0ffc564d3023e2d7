/** Taking the machine off the network, with what that means told before. */
import { useSignal } from "@preact/signals";
import type { OffboardForecast } from "../../api/answers";
import { send } from "../../api/client";
import { whyNot } from "../../app/acting";
import { plain } from "../../app/format";
import { useView } from "../../app/view";
import { Action, useDoing } from "../../components/action";
import { Dialog } from "../../components/dialog";
import { Trouble } from "../../components/parts";

export function Offboarding() {
  const asking = useSignal(false);
  return (
    <div class="card" data-testid="offboarding">
      <h2>Offboard</h2>
      <p>Withdraws this machine: it is offered to nobody and takes no jobs until it is onboarded again. To pause for a while, switch it offline instead.</p>
      <Action need="steer the provider" kind="danger" onClick={() => (asking.value = true)}>Offboard…</Action>
      {asking.value && <OffboardDialog close={() => (asking.value = false)} />}
    </div>
  );
}

function OffboardDialog({ close }: { close: () => void }) {
  const forecast = useView<OffboardForecast>("/onboarding/offboard", { types: ["deployment.*", "hold.*"], presentOnly: true });
  const force = useSignal(false);
  const { busy, trouble, run } = useDoing();
  const found = forecast.answer.value?.body;
  const needed = found?.needs_force && !force.value;
  const hindrance = whyNot("steer the provider") || (!found ? "What it means is being looked up." : needed ? "Jobs run here: wait for them, or say that they go on." : busy.value ? "It is under way." : "");
  const offboard = async () => {
    if (await run(async () => void (await send("POST", "/onboarding/offboard", { force: found?.needs_force === true && force.value })))) close();
  };
  return (
    <Dialog title="Offboard this machine?" confirm="Offboard" danger hindrance={hindrance} onConfirm={() => void offboard()} onCancel={close}>
      <Trouble text={forecast.error.value} retry={forecast.reload} />
      <ul>
        {found?.means.map((words) => <li key={words}>{plain(words)}</li>)}
        <li>what you chose (resources, price, address) has to be chosen again when you come back</li>
      </ul>
      {found?.needs_force && (
        <label><input type="checkbox" checked={force.value} onChange={(event) => (force.value = event.currentTarget.checked)} /> Offboard although jobs run here</label>
      )}
      <Trouble text={trouble.value} />
    </Dialog>
  );
}
