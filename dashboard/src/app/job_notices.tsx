/** Tells when a job ends, on whatever page one is. */
import { useEffect } from "preact/hooks";
import { onNews } from "../live/live";
import { topicOf, type LogEvent } from "../live/protocol";
import { short } from "./format";
import { notices, notify, switchNotices, type Notices } from "./notifications";
import { href } from "./router";

const ENDS: Readonly<Record<string, string>> = {
  "job.completed": "✔ Your job has completed", "job.failed": "✖ Your job has failed", "job.expired": "■ Your job was not paid in time",
  "deployment.container_exited": "■ A job on this machine has ended", "deployment.failed": "✖ A job on this machine has failed", "deployment.stopped": "■ A job on this machine was stopped",
};
const WORDS: Readonly<Record<Notices, string>> = {
  on: "You are told when a job ends", off: "Tell me when a job ends", refused: "The browser does not allow notifications of this page; its settings do",
  impossible: "Notifications need https, or a browser on the machine itself",
};

export function JobNotices() {
  const state = notices.value;
  useEffect(() => {
    if (state !== "on") return undefined;
    return onNews(Object.keys(ENDS), tell);
  }, [state]);
  const off = state === "refused" || state === "impossible";
  return (
    <button class="quiet" aria-pressed={state === "on"} aria-disabled={off ? "true" : undefined} title={WORDS[state]} aria-label={WORDS[state]} onClick={() => !off && void switchNotices(state !== "on")}>
      <svg class="bell" viewBox="0 0 16 16" aria-hidden="true"><path d="M8 1.5a4.5 4.5 0 0 0-4.5 4.5v3L2 11.5h12L12.5 9V6A4.5 4.5 0 0 0 8 1.5zM6.5 13a1.5 1.5 0 0 0 3 0z" />{state !== "on" && <path class="off" d="M2 2l12 12" />}</svg>
    </button>
  );
}

function tell(event: LogEvent): void {
  const topic = topicOf(event);
  const job = event.subject.replace(/^[a-z]+-/, "");
  const { reason = "" } = event.data as { reason?: string };
  const role = topic.startsWith("job.") ? "sp" : "cp";
  notify(ENDS[topic] ?? "", `${short(job)}${reason && `: ${reason}`}`, job, href(`/${role}/jobs/${job}`));
}
