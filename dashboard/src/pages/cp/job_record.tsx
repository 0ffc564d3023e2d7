/** Each event of a job on this node, and whether the record holds. */
import { plain } from "../../app/format";
import { moment } from "../../app/router";
import { useView } from "../../app/view";
import { Time, Trouble } from "../../components/parts";
import type { Deployment } from "./types";

interface RecordedEvent {
  position: number;
  time: string;
  topic: string;
  event_id: string;
  causation_id: string;
  hash: string;
  data: Record<string, unknown>;
}

export function JobRecord({ job }: { job: Deployment }) {
  const history = useView<{ items: RecordedEvent[] }>(`/jobs/${job.job_id}/history`, { types: ["deployment.*"], jobId: job.job_id, presentOnly: true });
  const items = (history.answer.value?.body.items ?? []).filter(({ position }) => !moment.value || position <= job.position);
  return (
    <>
      <Verification job={job} />
      <Trouble text={history.error.value} retry={history.reload} />
      <div class="scroll">
        <table data-testid="record">
          <thead><tr><th class="number">Position</th><th>Time</th><th>Event</th><th>Data</th></tr></thead>
          <tbody>
            {items.map((one) => (
              <tr key={one.position} id={`event-${one.position}`}>
                <td class="number">{one.position}</td>
                <td><Time at={one.time} /></td>
                <td>{plain(one.topic)}<br /><code class="faint" title={plain(one.hash)}>{one.hash.slice(0, 12)}</code></td>
                <td><details><summary>{Object.keys(one.data).length} fields</summary><pre>{plain2(one.data)}</pre></details></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** JSON escapes control characters; what turns the direction of text is made visible. */
const plain2 = (data: Record<string, unknown>): string => JSON.stringify(data, null, 2).split("\n").map(plain).join("\n");

interface Verification {
  verified?: boolean;
  state?: string;
  status?: string;
  problems?: string[];
  detail?: string;
}

function Verification({ job }: { job: Deployment }) {
  const found = useView<Verification>(`/jobs/${job.job_id}/verification`, { types: ["deployment.*"], jobId: job.job_id, presentOnly: true });
  const body = found.answer.value?.body;
  if (!body) return <Trouble text={found.error.value} retry={found.reload} />;
  const good = body.verified ?? ["verified", "ok"].includes(body.state ?? body.status ?? "");
  return (
    <p class={`taking ${good ? "yes" : "no"}`} data-testid="verification">
      {good ? "✔ verified: the chain of this node’s log and the signatures hold" : `⚠ ${plain(body.detail ?? body.problems?.join("; ") ?? body.state ?? "not verified")}`}
    </p>
  );
}
