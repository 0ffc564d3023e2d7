import { href } from "../../app/router";
import { useView } from "../../app/view";
import { Empty, Time, Trouble } from "../../components/parts";
import { Status } from "../../components/status";

export function ServiceProviderJobs() {
  const jobs = useView<{ items: { job_id: string; status: string; image: string; unreachable: boolean; requested_at: string | null }[] }>("/jobs", { query: { role: "service provider", limit: 100 }, types: ["job"] });
  const items = jobs.answer.value?.body.items ?? [];
  return (
    <section>
      <h1>Jobs</h1>
      <Trouble text={jobs.error.value} retry={jobs.reload} />
      {jobs.answer.value && items.length === 0 && <Empty title="No jobs yet"><p><a class="button primary" href={href("/sp/new")}>New job</a></p></Empty>}
      <ul>{items.map((job) => <li key={job.job_id}><Status status={job.status} unreachable={job.unreachable} /> {job.image} <Time at={job.requested_at} /></li>)}</ul>
    </section>
  );
}
