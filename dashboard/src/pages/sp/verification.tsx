/** Whether the record of a job holds: this node's chain, and what the provider signed. */
import { plain } from "../../app/format";
import { useView } from "../../app/view";
import { Trouble } from "../../components/parts";

interface Answer {
  verified: boolean;
  detail: string;
}

export function Verification({ jobId, newest }: { jobId: string; newest: number }) {
  const found = useView<Answer>(`/jobs/${encodeURIComponent(jobId)}/verification`, { types: ["job.*"], jobId, presentOnly: true });
  const body = found.answer.value?.body;
  if (!body) return <Trouble text={found.error.value} retry={found.reload} />;
  return <p class={body.verified ? "notice" : "trouble"} data-newest={newest}>{body.verified ? "✔" : "✖"} {plain(body.detail)}</p>;
}
