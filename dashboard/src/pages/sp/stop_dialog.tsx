/** Stops exactly the jobs that it shows: their ids are frozen when it is opened, and no news adds one. */
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { failure, send } from "../../api/client";
import type { StopOutcome as Outcome } from "../../api/answers";
import { counted, plain } from "../../app/format";
import { Dialog } from "../../components/dialog";
import { Trouble } from "../../components/parts";
import { Status } from "../../components/status";


interface Props {
  /** At most 1,000. */
  jobIds: readonly string[];
  /** What is known of each, for people: its image. */
  nameOf: (jobId: string) => string;
  close: (stopped: boolean) => void;
}

const ask = async (jobIds: readonly string[], dryRun: boolean, reason = ""): Promise<Outcome[]> =>
  (await send<{ jobs: Outcome[] }>("POST", "/jobs/stop", { job_ids: jobIds, dry_run: dryRun, ...(reason && { reason }) })).jobs;

export function StopDialog({ jobIds, nameOf, close }: Props) {
  const outlook = useSignal<Outcome[] | null>(null);
  const error = useSignal("");
  const reason = useSignal("");
  const busy = useSignal(false);
  const done = useSignal(false);
  const tried = async (what: () => Promise<Outcome[]>) => {
    busy.value = true;
    try {
      outlook.value = await what();
      error.value = "";
      return true;
    } catch (problem) {
      error.value = failure(problem);
      return false;
    } finally {
      busy.value = false;
    }
  };
  useEffect(() => void tried(() => ask(jobIds, true)), []);
  const told = outlook.value ?? [];
  const ready = told.filter(({ outcome }) => outcome === "would_stop").map(({ job_id }) => job_id);
  const stop = async () => {
    if (done.value) return close(true);
    done.value = await tried(() => ask(ready, false, reason.value.trim()));
  };
  const count = counted(ready.length, "job");
  const hindrance = busy.value ? "the DMS is asked" : !done.value && ready.length === 0 ? "none of them can be stopped" : "";
  return (
    <Dialog title={done.value ? "Told to stop" : `Stop ${outlook.value ? count : "jobs"}?`} confirm={done.value ? "Done" : `Stop ${count}`} danger={!done.value} hindrance={hindrance} onConfirm={() => void stop()} onCancel={() => close(done.value)}>
      {!done.value && <p>{jobIds.length > 1 && "Only these are stopped, whatever else comes in meanwhile. "}A job that has run for half of its time or longer costs a part of its price; before that it costs nothing.</p>}
      <Trouble text={error.value} />
      <ul class="stop-list" aria-label="Jobs">
        {told.map(({ job_id, status, outcome, message }) => (
          <li key={job_id} class={outcome}>
            <Status status={status || "unknown"} /> <b>{plain(nameOf(job_id))}</b> <code>{job_id}</code> <span class="faint">{plain(message)}</span>
          </li>
        ))}
      </ul>
      {!done.value && (
        <div class="field"><label for="stop-reason">Reason, which the record keeps</label>
          <input id="stop-reason" maxLength={1000} value={reason.value} onInput={({ currentTarget }) => (reason.value = currentTarget.value)} /></div>
      )}
    </Dialog>
  );
}
