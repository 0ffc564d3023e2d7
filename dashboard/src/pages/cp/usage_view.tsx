/** What the machine and one job used in the last hour, as charts. */
import { useMemo } from "preact/hooks";
import { cpu, memory } from "../../app/format";
import { Chart } from "../../components/chart";
import { Trouble } from "../../components/parts";
import type { Sample } from "../../api/answers";
import { gpuLines, linesOf, type Usage } from "./usage";

const coresText = (cores: number): string => `${cores.toFixed(cores < 10 ? 2 : 1)} cores`;

export function MachineUsage({ usage, error }: { usage: Usage; error: string }) {
  return (
    <div class="card" data-testid="machine-usage">
      <h2>Used in the last hour</h2>
      <p class="faint">By all that runs on this machine, jobs or not. A restart of the DMS begins anew.</p>
      <Trouble text={error} />
      <UsageCharts samples={usage.machine} coresNote={` of ${usage.cores} cores`} memoryNote={` of ${memory(usage.memoryMb)}`} />
    </div>
  );
}

/** reserved: a job's own, of which it can take no more. */
export function JobUsage({ samples, cpuMhz, memoryMb }: { samples: readonly Sample[]; cpuMhz: number; memoryMb: number }) {
  return <UsageCharts samples={samples} coresNote={`, ${cpu(cpuMhz)} reserved`} memoryNote={`, ${memory(memoryMb)} reserved`} />;
}

function UsageCharts({ samples, coresNote, memoryNote }: { samples: readonly Sample[]; coresNote: string; memoryNote: string }) {
  const lines = useMemo(() => linesOf(samples), [samples]); // pages are rendered anew with each event, samples come rarely
  const gpus = useMemo(() => [...gpuLines(samples)], [samples]);
  if (samples.length === 0) return <p class="faint">No sample yet; one comes every ten seconds.</p>;
  return (
    <div class="grid">
      <Titled title="CPU" note={`${lastOf(lines.cores, coresText)}${coresNote}`}>
        <Chart times={lines.times} lines={[{ name: "CPU", values: lines.cores, tone: "running" }]} label="CPU, in cores" leastTop={0.1} value={(cores) => cores.toFixed(2)} />
      </Titled>
      <Titled title="Memory" note={`${lastOf(lines.memoryMb, memory)}${memoryNote}`}>
        <Chart times={lines.times} lines={[{ name: "Memory", values: lines.memoryMb, tone: "completed" }]} label="Memory" binary leastTop={16} value={memory} />
      </Titled>
      {gpus.map(([uuid, { times, percent, memoryMb }]) => (
        <Titled key={uuid} title={`GPU ${uuid.slice(0, 12)}`} note={`${lastOf(percent, (value) => `${value} %`)}, ${lastOf(memoryMb, memory)}`}>
          <Chart times={times} lines={[{ name: "busy", values: percent, tone: "lost" }]} label={`GPU ${uuid}`} leastTop={10} value={(value) => `${Math.round(value)} %`} />
        </Titled>
      ))}
    </div>
  );
}

function Titled({ title, note, children }: { title: string; note: string; children: preact.ComponentChildren }) {
  return <div><p class="chart-title"><b>{title}</b><span>{note}</span></p>{children}</div>;
}

function lastOf(values: readonly (number | null)[], text: (value: number) => string): string {
  const found = values.findLast((value) => value !== null);
  return found == null ? "–" : text(found);
}
