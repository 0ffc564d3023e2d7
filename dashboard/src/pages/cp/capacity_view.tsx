/** Bars of CPU, memory and each GPU's memory: reserved, on hold, free, not offered. */
import { cpu, memory } from "../../app/format";
import { plain } from "../../app/format";
import { moment } from "../../app/router";
import { useView } from "../../app/view";
import { Bar } from "../../components/parts";
import { gpuBar, resourceBar } from "./capacity_bars";
import type { GpuStatus, Provider } from "../../api/answers";

const LEGEND = [["reserved", "reserved by jobs"], ["held", "on hold for jobs not paid yet"], ["free", "free"], ["rest", "not offered"]] as const;

export function CapacityBars({ row }: { row: Provider }) {
  const bars = [
    { ...resourceBar("CPU", row, "cpu_mhz"), unit: cpu },
    { ...resourceBar("Memory", row, "memory_mb"), unit: memory },
  ];
  return (
    <div class="card" data-testid="capacity">
      <h2>Capacity</h2>
      <p class="legend">{LEGEND.map(([tone, words]) => <span><i class={tone} aria-hidden="true" />{words}</span>)}</p>
      {bars.map(({ label, segments, total, unit }) => (
        <Bar label={`${label}: ${unit(total)}, ${unit(row.onboarded[label === "CPU" ? "cpu_mhz" : "memory_mb"])} onboarded`} segments={segments} total={total} unit={unit} />
      ))}
      {row.gpus.length > 0 && <GpuBars row={row} />}
      {row.gpus.length === 0 && <p class="faint">No GPU is offered.</p>}
    </div>
  );
}

function GpuBars({ row }: { row: Provider }) {
  const now = useView<GpuStatus[]>("/gpu/status", { types: ["device.gpus_changed", "deployment.accepted", "deployment.container_exited", "deployment.failed", "deployment.stopped"], presentOnly: true });
  const of = (uuid: string): GpuStatus | undefined => (moment.value ? undefined : now.answer.value?.body.find((gpu) => gpu.uuid === uuid));
  return (
    <>
      {row.gpus.map((gpu) => {
        const [bar, live] = [gpuBar(gpu, of(gpu.uuid)?.jobs.length ?? 0), of(gpu.uuid)];
        return (
          <div key={gpu.uuid}>
            <Bar label={`${plain(bar.label)}: ${memory(bar.total)}`} segments={bar.segments} total={bar.total} unit={memory} />
            {live && <p class="faint">{gpuWords(live)}</p>}
          </div>
        );
      })}
    </>
  );
}

function gpuWords({ present, utilization_percent, temperature_celsius, power_watts }: GpuStatus): string {
  if (!present) return "The driver lost this card while a job holds it.";
  const parts = [
    utilization_percent === null ? "" : `${utilization_percent} % busy`,
    temperature_celsius === null ? "" : `${temperature_celsius} °C`,
    power_watts === null ? "" : `${Math.round(power_watts)} W`,
  ];
  return parts.filter((part) => part !== "").join(", ");
}
