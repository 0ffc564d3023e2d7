/** Asks again for exactly the jobs that it shows, once it is known what each would cost and who would run it. */
import { useEffect, useMemo } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { counted, decimal, ntx, plain } from "../../app/format";
import { href } from "../../app/router";
import { Dialog } from "../../components/dialog";
import { Peer } from "../../components/parts";
import { askAll, outlookOf, sumOf, type Outlook } from "./again";

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
  const ended = useMemo(() => new AbortController(), []);
  useEffect(() => {
    void lookAll(jobIds, ended.signal, put);
    return () => ended.abort();
  }, []);
  const all = [...outlooks.value];
  const ready = all.flatMap(([id, one]) => (one.state === "ready" ? [[id, one.request] as const] : []));
  const confirm = async () => {
    if (done.peek()) return close(true);
    busy.value = true;
    await askAll(ready, ended.signal, put);
    [busy.value, done.value] = [false, true];
  };
  const cancel = () => (busy.peek() ? ended.abort() : close(done.peek())); // what was asked for by then stays told
  const waiting = all.some(([, { state }]) => state === "asking");
  const hindrance = busy.value || waiting ? "Providers are asked…" : !done.value && ready.length === 0 ? "None of them can be asked for." : "";
  const count = counted(ready.length, "job");
  return (
    <Dialog title={done.value ? "Asked for" : "Run again?"} confirm={done.value ? "Done" : `Ask for ${count}`} hindrance={hindrance} onConfirm={() => void confirm()} onCancel={cancel}>
      <p>{done.value ? "Each waits for its payment, on its own page." : <>Each is asked for as it was, and then waits for its payment: <b>{sumOf(outlooks.value.values())}</b> for {count}. Nothing is paid yet.</>}</p>
      <ul class="stop-list" aria-label="Jobs" aria-busy={waiting || busy.value}>
        {all.map(([jobId, outlook]) => <li key={jobId}><b>{plain(nameOf(jobId))}</b> <code>{jobId}</code> <Words outlook={outlook} over={done.value} /></li>)}
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

function Words({ outlook, over }: { outlook: Outlook; over: boolean }) {
  switch (outlook.state) {
    case "asking": return <span class="faint">providers are asked…</span>;
    case "refused": return <span class="faint">✖ {plain(outlook.why)}</span>;
    case "ready": return over ? <span class="faint">not asked for</span> : <span>✔ {ntx(outlook.price)} with <Peer id={outlook.provider} /></span>;
    case "asked": return <a href={href(`/sp/jobs/${outlook.quote.job_id}`)}>Pay {ntx(decimal(outlook.quote.estimated_price))}</a>;
  }
}
