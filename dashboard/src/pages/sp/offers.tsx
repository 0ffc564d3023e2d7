/** Who would run the job, for how much, and who can't and why: before anything is asked for or paid. */
import { decimal, ntx, plain, whole } from "../../app/format";
import { Peer } from "../../components/parts";
import { nameOf } from "../../domain/job_fields";
import type { JobForm } from "./job_form";
import type { DryRun } from "../../api/answers";

export function Offers({ form }: { form: JobForm }) {
  const offer = form.offer.value;
  return (
    <section class="card offers" aria-label="Offers" aria-busy={offer.state === "asking"}>
      <h2>Offers <small class="faint">nothing is paid, held or recorded yet</small></h2>
      <div aria-live="polite">
        {offer.state === "none" && <p class="faint">As soon as the form is filled in, providers are asked who would run it, and for how much.</p>}
        {offer.state === "asking" && <p class="faint">Providers are asked…</p>}
        {offer.state === "found" && <Price answer={offer.answer} form={form} />}
        {offer.state === "nobody" && <p class="trouble">{plain(offer.text)}</p>}
        {offer.state === "failed" && <p class="trouble">{plain(offer.text)}</p>}
      </div>
      {offer.state === "found" && <Table answer={offer.answer} form={form} />}
      {offer.state === "asking" && offer.last && <div class="old"><Table answer={offer.last} form={form} /></div>}
      {offer.state === "nobody" && <Refused refused={Object.entries(offer.refused).map(([peer_id, reason]) => ({ peer_id, reason }))} count={Object.keys(offer.refused).length} />}
    </section>
  );
}

function Price({ answer, form }: { answer: DryRun; form: JobForm }) {
  const { maxNtx, minutes } = form.draft.value;
  return (
    <p class="price"><b>{ntx(decimal(answer.estimated_price))}</b> for {plain(minutes)} min, of at most {plain(maxNtx)} NTX{" "}
      <span class="faint">– the whole price is earned only when the job completes</span></p>
  );
}

function Table({ answer, form }: { answer: DryRun; form: JobForm }) {
  const chosen = form.draft.value.provider;
  return (
    <>
      <div class="scroll"><table>
        <caption>{whole(answer.candidates.length)} can take it</caption>
        <thead><tr><th>Provider</th><th class="number">Price</th><th class="number">Round trip</th><th></th></tr></thead>
        <tbody>
          {answer.candidates.map((candidate) => (
            <tr key={candidate.peer_id} class={candidate.chosen ? "chosen" : undefined}>
              <td><span aria-hidden="true">✔ </span><Peer id={candidate.peer_id} /></td>
              <td class="number">{ntx(decimal(candidate.price))}</td>
              <td class="number">{candidate.round_trip_ms === null ? "–" : `${candidate.round_trip_ms.toFixed(1)} ms`}</td>
              <td>{candidate.trouble ? <span class="faint">{plain(candidate.trouble)}</span> : candidate.chosen ? <span>would get it{chosen ? "" : ": the cheapest that is there"}</span>
                : <button type="button" onClick={() => form.set({ provider: candidate.peer_id })}>Choose</button>}</td>
            </tr>
          ))}
        </tbody>
      </table></div>
      {chosen && <p class="faint">Only <Peer id={chosen} /> may run it. <button type="button" class="link" onClick={() => form.set({ provider: "" })}>Let any provider</button></p>}
      {answer.unseen_count > 0 && <p class="faint">{whole(answer.unseen_count)} more were not looked at: enough others cost no more.</p>}
      <Refused refused={answer.refused} count={answer.refused_count} />
      {answer.warnings.length > 0 && <ul class="notice" aria-label="Warnings">{answer.warnings.map(({ pointer, detail }) => <li key={pointer}>{pointer ? `${nameOf(pointer)}: ` : ""}{plain(detail)}</li>)}</ul>}
    </>
  );
}

function Refused({ refused, count }: { refused: readonly { peer_id: string; reason: string }[]; count: number }) {
  if (refused.length === 0) return null;
  return (
    <div class="scroll"><table>
      <caption>{whole(count)} can't{count > refused.length && `, ${refused.length} of them`}</caption>
      <tbody>{refused.map(({ peer_id, reason }) => <tr key={peer_id}><td><span aria-hidden="true">✖ </span><Peer id={peer_id} /></td><td>{plain(reason)}</td></tr>)}</tbody>
    </table></div>
  );
}
