/** The question before a provider ends a job that runs here: what it costs. */
import { useSignal } from "@preact/signals";
import { send } from "../../api/client";
import { whyNot } from "../../app/acting";
import { ntx, plain, short } from "../../app/format";
import { now } from "../../app/clock";
import { useDoing } from "../../components/action";
import { Dialog } from "../../components/dialog";
import { Trouble } from "../../components/parts";
import { leftWords, secondsLeft } from "./deployments";
import { endingJob } from "./machine";
import { expected } from "./rewards";

export function EndDialog() {
  const job = endingJob.value;
  const reason = useSignal("");
  const { busy, trouble, run } = useDoing();
  if (!job) return null;
  const close = () => ([endingJob.value, reason.value, trouble.value] = [null, "", ""]);
  const end = async () => {
    const body = reason.value.trim() ? { reason: reason.value.trim() } : {};
    if (await run(async () => void (await send("POST", `/jobs/${job.job_id}/stop`, body)))) close();
  };
  const { completed } = expected(job, now.value);
  return (
    <Dialog title="End this job?" confirm="End the job" danger hindrance={whyNot("steer jobs") || (busy.value ? "It is being told." : "")} onConfirm={() => void end()} onCancel={close}>
      <p>
        <b>You earn nothing for it.</b> A job that its provider ends is refunded as a whole: {ntx(job.price)} go back to {plain(short(job.peer))}.
        If it goes on and completes, you earn {completed ? ntx(completed) : "its price"} ({leftWords(secondsLeft(job, now.value))}).
      </p>
      <p>Its container is stopped, and what it has not saved is lost. To take no further jobs and let this one finish, switch this machine offline instead.</p>
      <label class="field">
        <span>Reason, for its requester (may be empty)</span>
        <input maxLength={1000} value={reason.value} onInput={(event) => (reason.value = event.currentTarget.value)} />
      </label>
      <Trouble text={trouble.value} />
    </Dialog>
  );
}
