/** Asks again for exactly the jobs that it shows, once it is known what each would cost and who would run it. */
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { counted, ntx, plain } from "../../app/format";
import { href } from "../../app/router";
import { Dialog } from "../../components/dialog";
import { Peer } from "../../components/parts";
import { asked, outlookOf, sumOf, type Outlook } from "./again";
import { decimal } from "./offers";
import { keepQuote } from "./quotes";

interface Props {
  /** At most MOST_AGAIN. */
  jobIds: readonly string[];
  /** What is known of each, for people: its image. */
  nameOf: (jobId: string) => string;
  close: (wereAsked: boolean) => void;
}

export function AgainDialog({ jobIds, nameOf, close }: Props) {
  const outlooks = useSignal<ReadonlyMap<string, Outlook>>(new Map(jobIds.map((id) => [id, { state: "asking" }])));
  const busy = useSignal(false);
  const done = useSignal(false);
  const put = (jobId: string, outlook: Outlook) => (outlooks.value = new Map([...outlooks.peek(), [jobId, outlook]]));
  useEffect(() => {
    const ended = new AbortController();
    void lookAll(jobIds, ended.signal, put);
    return () => ended.abort();
  }, []);
  const all = [...outlooks.value];
  const ready = all.flatMap(([id, one]) => (one.state === "ready" ? [[id, one.request] as const] : []));
  const confirm = async () => {
    if (done.peek()) return close(true);
    busy.value = true;
    for (const [jobId, request] of ready) {
      const outcome = await asked(request);
      if (outcome.state === "asked") keepQuote(outcome.quote);
      put(jobId, outcome);
    }
    [busy.value, done.value] = [false, true];
  };
  const waiting = all.some(([, { state }]) => state === "asking");
  const hindrance = busy.value || waiting ? "Providers are asked…" : !done.value && ready.length === 0 ? "None of them can be asked for." : "";
  const count = counted(ready.length, "job");
  return (
    <Dialog title={done.value ? "Asked for" : "Run again?"} confirm={done.value ? "Done" : `Ask for ${count}`} hindrance={hindrance} onConfirm={() => void confirm()} onCancel={() => close(done.peek())}>
      <p>{done.value ? "Each waits for its payment, on its own page." : <>Each is asked for as it was, and then waits for its payment: <b>{sumOf(outlooks.value.values())}</b> for {count}. Nothing is paid yet.</>}</p>
      <ul class="stop-list" aria-label="Jobs" aria-busy={waiting || busy.value}>
        {all.map(([jobId, outlook]) => <li key={jobId}><b>{plain(nameOf(jobId))}</b> <code>{jobId}</code> <Words outlook={outlook} /></li>)}
      </ul>
    </Dialog>
  );
}

/** One after the other: each asks all providers. */
async function lookAll(jobIds: readonly string[], ended: AbortSignal, put: (jobId: string, outlook: Outlook) => void): Promise<void> {
  try {
    for (const jobId of jobIds) put(jobId, await outlookOf(jobId, ended));
  } catch (problem) {
    if (!ended.aborted) throw problem;
  }
}

function Words({ outlook }: { outlook: Outlook }) {
  switch (outlook.state) {
    case "asking": return <span class="faint">providers are asked…</span>;
    case "refused": return <span class="faint">✖ {plain(outlook.why)}</span>;
    case "ready": return <span>✔ {ntx(outlook.price)} with <Peer id={outlook.provider} /></span>;
    case "asked": return <a href={href(`/sp/jobs/${outlook.quote.job_id}`)}>Pay {ntx(decimal(outlook.quote.estimated_price))}</a>;
  }
}
