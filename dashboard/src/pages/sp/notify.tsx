/** A notification of the browser's own when the job ends: asked for on a click, kept for this tab. */
import { useEffect } from "preact/hooks";
import { signal, useSignal } from "@preact/signals";
import { plain } from "../../app/format";
import type { JobEvents } from "./job_events";
import { endsIt } from "./job_events";
import { topicOf } from "../../live/protocol";

const STORED = "dms.notify";
const wanted = signal<ReadonlySet<string>>(new Set(JSON.parse(sessionStorage.getItem(STORED) ?? "[]") as string[]));

function want(jobId: string, on: boolean): void {
  const ids = new Set(wanted.peek());
  if (on) ids.add(jobId);
  else ids.delete(jobId);
  wanted.value = ids;
  sessionStorage.setItem(STORED, JSON.stringify([...ids]));
}

export function NotifyButton({ jobId, image, follow }: { jobId: string; image: string; follow: JobEvents }) {
  const trouble = useSignal("");
  const on = wanted.value.has(jobId);
  useEffect(() => {
    follow.onNew = (event) => {
      const topic = topicOf(event);
      if (!endsIt(topic) || !wanted.peek().has(jobId)) return;
      want(jobId, false);
      new Notification(`Job ${topic.slice(4)}`, { body: plain(image), tag: jobId });
    };
    return () => (follow.onNew = null);
  }, [follow, jobId, image]);
  if (!("Notification" in globalThis)) return null;
  const toggle = async () => {
    if (on) return want(jobId, false);
    const answer = Notification.permission === "default" ? await Notification.requestPermission() : Notification.permission;
    trouble.value = answer === "granted" ? "" : "The browser does not let this page notify you; its settings for this page can.";
    want(jobId, answer === "granted");
  };
  return (
    <>
      <button aria-pressed={on} onClick={() => void toggle()}>{on ? "You are told when it ends" : "Tell me when it ends"}</button>
      {trouble.value && <span class="faint" role="status">{trouble.value}</span>}
    </>
  );
}
