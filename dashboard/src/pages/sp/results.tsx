/** What the job left: its files, its checkpoints, and what it printed as figures. */
import { useSignal } from "@preact/signals";
import { address, failure, get } from "../../api/client";
import { bytes, plain, whole } from "../../app/format";
import { href } from "../../app/router";
import { useView } from "../../app/view";
import { OnlyNow, Time, Trouble } from "../../components/parts";
import { MetricPlots } from "./metric_plots";
import type { Checkpoint, JobRow, Results } from "../../api/answers";

const PAGE_FILES = 200;
const TYPES = ["job.checkpoint_received", "job.results_offered", "job.results_received", "job.results_lost", "job.results_removed", "job.completed", "job.failed"];

const STATES: Record<string, string> = {
  awaited: "The job is not over; what it leaves comes when it ends.",
  fetching: "They are being fetched from the provider.",
  none: "There are none",
  lost: "They are lost",
  expired: "They were removed after their time",
};

function standing({ state, reason }: Results): string {
  const words = STATES[state] ?? plain(state);
  return reason && !words.endsWith(".") ? `${words}: ${plain(reason)}.` : words;
}

export function ResultsTab({ job }: { job: JobRow }) {
  const path = `/jobs/${encodeURIComponent(job.job_id)}`;
  const results = useView<Results>(`${path}/results`, { query: { limit: PAGE_FILES }, types: TYPES, jobId: job.job_id, presentOnly: true });
  const body = results.answer.value?.body;
  return (
    <>
      <OnlyNow />
      <section class="card" aria-label="Files">
        <div class="row"><h2>Files</h2>
          {body && body.files > 0 && <><span class="faint">{whole(body.files)}, {bytes(body.content_bytes)}{body.origin === "checkpoint" && `, of checkpoint ${body.checkpoint}`}</span>
            <a class="button push" href={address(`${path}/results.tar`)} download={`${job.job_id}.tar`}>Download all</a></>}</div>
        <Trouble text={results.error.value} retry={results.reload} />
        {body && body.state !== "here" && <p class="faint">{standing(body)}{body.state === "fetching" && body.size_bytes > 0 && ` ${bytes(body.done_bytes)} of ${bytes(body.size_bytes)}.`}</p>}
        {body && body.files > 0 && <Files jobId={job.job_id} first={body} />}
        {body?.state === "none" && <p class="faint">What a job leaves in /workspace/results comes back, or what the patterns of its request say.</p>}
      </section>
      <Checkpoints job={job} />
      <MetricPlots job={job} />
    </>
  );
}

function Files({ jobId, first }: { jobId: string; first: Results }) {
  const more = useSignal<Results[]>([]);
  const error = useSignal("");
  const pages = [first, ...more.value];
  const next = pages.at(-1)?.next_token ?? "";
  const path = `/jobs/${encodeURIComponent(jobId)}/results`;
  const load = async () => {
    try {
      const { body } = await get<Results>(path, { limit: PAGE_FILES, after: next });
      more.value = [...more.value, body];
    } catch (problem) {
      error.value = failure(problem);
    }
  };
  return (
    <div class="scroll"><table>
      <thead><tr><th>File</th><th class="number">Size</th><th>Changed</th><th>SHA-256</th></tr></thead>
      <tbody>
        {pages.flatMap(({ items }) => items).map((file) => (
          <tr key={file.path}>
            <td><a href={address(`${path}/${file.path.split("/").map(encodeURIComponent).join("/")}`)} download={file.path.split("/").at(-1)}>{plain(file.path)}</a></td>
            <td class="number">{bytes(file.size_bytes)}</td><td><Time at={file.modified_at} /></td><td><code title={file.sha256}>{file.sha256.slice(0, 12)}</code></td>
          </tr>
        ))}
      </tbody>
    </table>
    {next && <button onClick={() => void load()}>More files</button>}
    <Trouble text={error.value} /></div>
  );
}

function Checkpoints({ job }: { job: JobRow }) {
  const all = useView<Checkpoint[]>("/run/checkpoints", { types: ["job.checkpoint_received"], jobId: job.job_id, presentOnly: true });
  const own = (all.answer.value?.body ?? []).filter(({ filename_path }) => filename_path.startsWith(job.job_id));
  if (own.length === 0) return <Trouble text={all.error.value} retry={all.reload} />;
  return (
    <section class="card" aria-label="Checkpoints"><h2>Checkpoints</h2>
      <div class="scroll"><table>
        <thead><tr><th>File</th><th class="number">Size</th><th>Received</th><th></th></tr></thead>
        <tbody>
          {own.map((checkpoint) => (
            <tr key={checkpoint.filename_path}>
              <td><code>{plain(checkpoint.filename_path)}</code></td><td class="number">{bytes(checkpoint.size_bytes)}</td><td><Time at={new Date(checkpoint.last_modified * 1000).toISOString()} /></td>
              <td><a class="button" href={address(`/run/checkpoints/${encodeURIComponent(checkpoint.filename_path)}`)} download={checkpoint.filename_path}>Download</a>{" "}
                <a class="button" href={href("/sp/new", { from: job.job_id, resume: checkpoint.filename_path })}>Go on from it</a></td>
            </tr>
          ))}
        </tbody>
      </table></div>
    </section>
  );
}
