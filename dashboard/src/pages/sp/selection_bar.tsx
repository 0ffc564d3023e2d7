/** What can be done with the selected jobs. */
import { useSignal } from "@preact/signals";
import { ApiError } from "../../api/client";
import { whole } from "../../app/format";
import { href } from "../../app/router";
import { Trouble } from "../../components/parts";
import type { JobQuery } from "../../app/job_rows";
import { MOST_SELECTED, type Selection } from "./selection";

interface Props {
  selection: Selection;
  hindrance: string;
  stop: (jobIds: readonly string[]) => void;
  /** Of the jobs that the filters leave, those that are not over. */
  openOnes: JobQuery;
}

export function SelectionBar({ selection, hindrance, stop, openOnes }: Props) {
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
      error.value = problem instanceof ApiError ? problem.message : String(problem);
    }
  };
  const only = ids.length === 1 ? ids[0] : undefined;
  return (
    <div class="row selection" role="group" aria-label="Selected jobs">
      <b>{whole(ids.length)} selected</b>{note.value && <span class="faint">{note.value}</span>}
      <button class="danger" disabled={hindrance !== ""} title={hindrance} onClick={() => stop(ids)}>Stop…</button>
      {only && <a class="button" href={href("/sp/new", { from: only })}>Run again</a>}
      <button onClick={() => void addAll()} title="Of the jobs that the filters leave now; later ones are not added">Select all open ones</button>
      <button class="quiet" onClick={selection.clear}>Clear selection</button>
      <Trouble text={error.value} />
    </div>
  );
}
