/** Which GPUs are offered, and why one is not. */
import { memory, plain } from "../../app/format";
import { useView } from "../../app/view";
import type { Gpu } from "./types";

interface GpuCapacity {
  detected: number;
  offered: Gpu[];
  hindrance: string;
}

interface DetectedGpu {
  name: string;
  uuid: string;
  memory_total_mb: number;
  memory_free_mb: number;
  present: boolean;
}

export function GpusOffered({ onboarded }: { onboarded: boolean }) {
  const capacity = useView<GpuCapacity>("/gpu/capacity", { types: ["device.*"], presentOnly: true });
  const detected = useView<DetectedGpu[]>("/gpu/status", { types: ["device.*"], presentOnly: true });
  const [offered, found] = [capacity.answer.value?.body, detected.answer.value?.body ?? []];
  const hindrance = onboarded ? (offered?.hindrance ?? "") : "";
  return (
    <fieldset>
      <legend>GPUs</legend>
      {found.length === 0 && <p class="faint">No GPU was found. NVIDIA cards are seen by their driver; jobs use them through the NVIDIA container toolkit.</p>}
      {found.length > 0 && (
        <>
          <ul class="reasons">
            {found.map((gpu) => <li>{plain(gpu.name)}: {memory(gpu.memory_total_mb)}, {gpu.present ? `${memory(gpu.memory_free_mb)} free now` : "lost by its driver"}</li>)}
          </ul>
          <p class="faint">Every card is offered with what nothing else uses of it; a program that computes on one keeps that card for itself.</p>
        </>
      )}
      {hindrance && <p class="notice">{plain(hindrance)}</p>}
    </fieldset>
  );
}
