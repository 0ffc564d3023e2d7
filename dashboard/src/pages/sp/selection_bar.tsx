/** What can be done with the selected jobs. */
import { useSignal } from "@preact/signals";
import { failure } from "../../api/client";
import { whole } from "../../app/format";
import { href } from "../../app/router";
import { Action } from "../../components/action";
import { Trouble } from "../../components/parts";
import type { JobQuery } from "../../app/job_rows";
import { MOST_AGAIN } from "./again";
import { MOST_SELECTED, type Selection } from "./selection";

interface Props {
  selection: Selection;
  stop: (jobIds: readonly string[]) => void;
  again: (jobIds: readonly string[]) => void;
  /** Of the jobs that the filters leave, those that are not over. */
  openOnes: JobQuery;
}

export function SelectionBar({ selection, stop, again, openOnes }: Props) {
  const note = useSignal("");
  const error = useSignal("");
  const ids = [...selection.ids.value.keys()];
  if (ids.length === 0) return null;
  const addAll = async () => {
    try {
      const total = openOnes["status"] ? await selection.addAll(openOnes) : 0;
      note.value = total > 0 ? `the first ${whole(MOST_SELECTED)} of ${whole(total)}` : "";
      error.value = "";
    } catch (problem) {
      error.value = failure(problem);
    }
  };
  const only = ids.length === 1 ? ids[0] : undefined;
  return (
    <div class="row selection" role="group" aria-label="Selected jobs">
      <b>{whole(ids.length)} selected</b>{note.value && <span class="faint">{note.value}</span>}
      <Action need="steer jobs" kind="danger" onClick={() => stop(ids)}>Stop…</Action>
      {only
        ? <a class="button" href={href("/sp/new", { from: only })}>Run again</a>
        : <Action need="ask for jobs" hindrance={ids.length > MOST_AGAIN ? `At most ${MOST_AGAIN} are run again at once, since each is paid by itself.` : ""} onClick={() => again(ids)}>Run again…</Action>}
      <button onClick={() => void addAll()} title="Of the jobs that the filters leave now; later ones are not added">Select all open ones</button>
      <button class="quiet" onClick={selection.clear}>Clear selection</button>
      <Trouble text={error.value} />
    </div>
  );
}
