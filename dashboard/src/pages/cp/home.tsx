/** `/cp`: this machine as a compute provider, now. */
import "../../styles/provider.css";
import { href, moment } from "../../app/router";
import { usePageTitle } from "../../app/title";
import { hasCome } from "../../app/view";
import { Trouble } from "../../components/parts";
import { Availability } from "./availability";
import { onboarded } from "./capacity";
import { CapacityBars } from "./capacity_view";
import { EndDialog } from "./end_job";
import { useMachine, useUsage } from "./machine";
import { Onboarding } from "./onboarding";
import { Running } from "./running";
import { Today } from "./today";
import { MachineUsage } from "./usage_view";

export function ComputeProviderHome() {
  const machine = useMachine();
  const { usage, error, come } = useUsage();
  const row = machine.row.value;
  const listed = hasCome(machine.deployments);
  usePageTitle("This machine", machine.running.value.length ? `▶ ${machine.running.value.length} running` : "");
  return (
    <section>
      <h1>This machine</h1>
      <Trouble text={machine.capacity.error.value} retry={machine.capacity.reload} />
      {machine.known.value && !onboarded(row) && (moment.value ? <NotThen /> : <Onboarding />)}
      {row && onboarded(row) && (
        <>
          <div class="grid even">
            <Availability row={row} />
            <Today />
          </div>
          <CapacityBars row={row} />
        </>
      )}
      {hasCome(machine.capacity) && (onboarded(row) || machine.running.value.length > 0) && (
        <>
          <Running machine={machine} usage={usage.value} />
          {listed && !moment.value && <MachineUsage usage={usage.value} error={error.value} />}
          {listed && (come.value || moment.value) && <p><a href={href("/cp/jobs")}>All jobs that ran here</a></p>}
        </>
      )}
      <EndDialog />
    </section>
  );
}

function NotThen() {
  return <p class="empty">This machine was not onboarded then.</p>;
}
