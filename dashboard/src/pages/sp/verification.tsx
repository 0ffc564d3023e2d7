/** Whether the record of a job holds: its events and their hashes, what the provider signed, the output, other peers' word. */
import { plain } from "../../app/format";
import { useView } from "../../app/view";
import { OnlyNow, Time, Trouble } from "../../components/parts";
import type { Verification as Answer } from "../../api/answers";

const SIGNS: Record<string, readonly [sign: string, words: string]> = { verified: ["✔", "verified"], open: ["◔", "nothing tells yet"], wrong: ["✖", "does not hold"] };
const NAMES: Record<string, string> = { history: "This node's events", provider: "The provider's signatures", output: "The output", witnesses: "Other peers' signatures" };

export function Verification({ jobId }: { jobId: string }) {
  const found = useView<Answer>(`/jobs/${encodeURIComponent(jobId)}/verification`, { types: ["job.*", "deployment.*"], jobId, presentOnly: true });
  const body = found.answer.value?.body;
  if (!body) return found.error.value ? <Trouble text={found.error.value} retry={found.reload} /> : <Checking />;
  return (
    <section class={`card verification ${body.result}`} aria-label="Verification" aria-busy={found.loading.value}>
      <h2><Sign result={body.result} /> <small class="faint">up to event {body.position}, looked at <Time at={body.checked_at} /></small></h2>
      <OnlyNow />
      <ul>{body.checks.map(({ name, result, detail }) => <li key={name}><Sign result={result} /> <b>{NAMES[name] ?? plain(name)}</b>: {plain(detail)}</li>)}</ul>
    </section>
  );
}

/** Keeps the place of the answer. */
function Checking() {
  return (
    <section class="card verification" aria-label="Verification" aria-busy>
      <h2>◔ <small class="faint">being checked…</small></h2>
      <ul>{Object.values(NAMES).map((name) => <li key={name}>◔ <b>{name}</b></li>)}</ul>
    </section>
  );
}

function Sign({ result }: { result: string }) {
  const [sign, words] = SIGNS[result] ?? ["✖", plain(result)];
  return <span class={`sign ${result}`}><span aria-hidden="true">{sign}</span> {words}</span>;
}
