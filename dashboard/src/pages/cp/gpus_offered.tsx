/** Which GPUs are offered, and why one is not. */
import { memory, plain } from "../../app/format";
import { useView } from "../../app/view";
import type { Hardware } from "../../api/answers";

export function GpusOffered({ gpus, onboarded }: { gpus: Hardware["gpus"]; onboarded: boolean }) {
  const capacity = useView<{ hindrance: string }>("/gpu/capacity", { types: ["device.*"], presentOnly: true });
  const hindrance = onboarded ? (capacity.answer.value?.body.hindrance ?? "") : "";
  return (
    <fieldset>
      <legend>GPUs</legend>
      {gpus.length === 0 && <p class="faint">No GPU was found. NVIDIA cards are seen by their driver; jobs use them through the NVIDIA container toolkit.</p>}
      {gpus.length > 0 && (
        <>
          <ul class="reasons">{gpus.map((gpu) => <li key={gpu.uuid}>{plain(gpu.name)}: {memory(gpu.total_vram_mb)}, {memory(gpu.free_vram_mb)} free now</li>)}</ul>
          <p class="faint">Every card is offered with what nothing else uses of it; a program that computes on one keeps that card for itself.</p>
        </>
      )}
      {hindrance && <p class="notice">{plain(hindrance)}</p>}
    </fieldset>
  );
}
