/** The online switch, and whether jobs are taken; if not, why. */
import { useSignal } from "@preact/signals";
import { send } from "../../api/client";
import { whyNot } from "../../app/acting";
import { ntx, plain } from "../../app/format";
import { moment } from "../../app/router";
import { useView } from "../../app/view";
import { useDoing } from "../../components/action";
import { Trouble } from "../../components/parts";
import { Press } from "../../components/press";
import { takingJobs } from "./reasons";
import { Sandbox } from "./sandbox";
import type { DeviceStatus, Provider } from "../../api/answers";

export function Availability({ row }: { row: Provider }) {
  const status = useView<DeviceStatus>("/device/status", { types: ["device.*", "deployment.*", "hold.*"], presentOnly: true });
  const { taking, reasons, remarks } = takingJobs(row, moment.value ? null : (status.answer.value?.body ?? null));
  return (
    <div class="card">
      <div class="row">
        <OnlineSwitch online={row.available} />
        <p class={`taking ${taking ? "yes" : "no"}`} role="status" data-testid="taking">{taking ? "✔ taking jobs" : "⚠ taking no jobs"}</p>
      </div>
      {/* Keeps the place of one reason: what is below must not jump when the switch is pressed or a job fills the machine. */}
      <div class="why">
        {reasons.length > 0
          ? <ul class="reasons" aria-label="Why no jobs are taken">{reasons.map((reason) => <li>{plain(reason)}</li>)}</ul>
          : <p class="faint">While offline it takes no new job; jobs that run go on.</p>}
      </div>
      {remarks.map((remark) => <p class="faint">{plain(remark)}</p>)}
      <Sandbox />
      <p class="faint">At least {ntx(row.ntx_price)} a minute, channel {plain(row.channel)}{row.network && <>, jobs’ network: {plain(row.network)}</>}.</p>
    </div>
  );
}

/** Shows what was asked for at once, until the log's event comes. */
function OnlineSwitch({ online }: { online: boolean }) {
  const asked = useSignal<boolean | null>(null);
  const { busy, trouble, run } = useDoing();
  if (asked.value === online && !busy.value) asked.value = null;
  const shown = asked.value ?? online;
  const change = async () => {
    asked.value = !online;
    if (!(await run(async () => void (await send("POST", "/device/status", { is_available: !online }))))) asked.value = null;
  };
  return (
    <>
      <span class="switch">
        <Press checked={shown} label="Online" why={whyNot("steer the provider")} busy={busy.value} onPress={() => void change()} />
        {shown ? "Online" : "Offline"}
      </span>
      <Trouble text={trouble.value} />
    </>
  );
}
