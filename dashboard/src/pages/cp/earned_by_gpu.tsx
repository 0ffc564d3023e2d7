/** Earnings by GPU: which cards a job had is in the log, in the event by which it was taken. */
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { ntx, plain, whole } from "../../app/format";
import { useView } from "../../app/view";
import { Trouble } from "../../components/parts";
import { onEvents } from "../../live/live";
import { earnedByGpu, MOST_JOBS, withCards, WITHOUT_GPU, type CardsOfJobs } from "./earned_gpus";
import type { Earnings } from "../../api/answers";
import { EARNING_EVENTS } from "./today";

export function EarnedByGpu({ since }: { since: string }) {
  const jobs = useView<Earnings>("/earnings", { query: { by: "job", role: "compute provider", since, limit: MOST_JOBS, order: "desc" }, types: EARNING_EVENTS });
  const [cards, error] = [useSignal<CardsOfJobs>(new Map()), useSignal("")];
  useEffect(() => {
    const failed = ({ detail }: { detail: string }): void => void (error.value = detail);
    return onEvents({ after: 0, types: ["deployment.accepted"], failed }, (event) => (cards.value = withCards(cards.value, event)));
  }, []);
  const items = jobs.answer.value?.body.items ?? [];
  return (
    <>
      <Trouble text={jobs.error.value || error.value} retry={jobs.reload} />
      {(jobs.answer.value?.total ?? 0) > items.length && <p class="faint">Of the newest {whole(items.length)} jobs.</p>}
      <table data-testid="earned">
        <thead><tr><th>GPU</th><th class="number">Jobs</th><th class="number">Earned</th></tr></thead>
        <tbody>
          {earnedByGpu(items, cards.value).map(({ gpu, jobs: count, earned }) => (
            <tr key={gpu}><td>{gpu === WITHOUT_GPU ? "jobs without a GPU" : <code>{plain(gpu)}</code>}</td><td class="number">{whole(count)}</td><td class="number">{ntx(earned)}</td></tr>
          ))}
        </tbody>
      </table>
      <p class="faint">What a job with several cards earned is shared among them equally.</p>
    </>
  );
}
