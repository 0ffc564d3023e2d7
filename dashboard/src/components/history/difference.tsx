/** What changed between the moment that is looked at and another one. */
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { failure, get } from "../../api/client";
import { counted, plain, whole } from "../../app/format";
import { href, moment } from "../../app/router";
import { Trouble } from "../parts";
import { capacityTold, jobsTold, type Diff, type Told } from "./diff_words";
import { thumb } from "./past";
import type { LogSpan } from "./span";

const MOST_SHOWN = 200;

export function Difference({ known }: { known: LogSpan }) {
  const at = moment.value === "" ? known.head : (thumb.value ?? known.head);
  const other = useSignal(moment.value === "" ? known.first_position - 1 : known.head);
  const found = useSignal<Diff | null>(null);
  const error = useSignal("");
  useEffect(() => {
    const asked = new AbortController();
    get<Diff>("/diff", { from: Math.min(at, other.value), to: Math.max(at, other.value) }, asked.signal).then(
      ({ body }) => {
        [found.value, error.value] = [body, ""];
      },
      (failed: unknown) => {
        if (!asked.signal.aborted) error.value = failure(failed);
      },
    );
    return () => asked.abort();
  }, [at, other.value]);
  return (
    <div class="difference">
      <label>Position {whole(at)} against <input type="number" min={0} max={known.head} value={other.value} onChange={(event) => (other.value = Math.min(known.head, Math.max(0, Number(event.currentTarget.value))))} /></label>
      <Trouble text={error.value} />
      {found.value && <Words diff={found.value} />}
    </div>
  );
}

function Words({ diff }: { diff: Diff }) {
  const [jobs, capacity] = [jobsTold(diff), capacityTold(diff)];
  if (jobs.length + capacity.length === 0) return <p>{counted(diff.events, "event")} in between; no job and no capacity has changed.</p>;
  return (
    <>
      <p>{counted(diff.events, "event")} from position {whole(diff.from)} to {whole(diff.to)}:</p>
      <ul>{jobs.slice(0, MOST_SHOWN).map((told) => <Item told={told} />)}{capacity.slice(0, MOST_SHOWN).map((told) => <Item told={told} />)}</ul>
      {Math.max(jobs.length, capacity.length) > MOST_SHOWN && <p class="faint">Only the first {MOST_SHOWN} of each are shown.</p>}
    </>
  );
}

function Item({ told: { page, title, details } }: { told: Told }) {
  return <li>{page ? <a href={href(page)}>{plain(title)}</a> : <b>{plain(title)}</b>}{details.length > 0 && <span class="faint"> {details.map(plain).join("; ")}</span>}</li>;
}
