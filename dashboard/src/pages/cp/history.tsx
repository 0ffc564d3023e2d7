/** `/cp/jobs`: all jobs that ran here, with filters that the address keeps. */
import "../../styles/provider.css";
import { counted, duration, ntx, plain } from "../../app/format";
import { DEPLOYED, useJobRows } from "../../app/job_rows";
import { href, moment, queryValue, searched, setQuery } from "../../app/router";
import { usePageTitle } from "../../app/title";
import { Announced, Empty, Peer, Time, Trouble } from "../../components/parts";
import { Status } from "../../components/status";
import { VirtualList } from "../../components/virtual_list";
import { ALL_STATUSES, OPEN_STATUSES } from "./deployments";
import type { Deployment } from "../../api/answers";

const ROW_PX = 44;
const GROUPS: readonly (readonly [string, string])[] = [["", "any state"], [OPEN_STATUSES.join(","), "not over"], ...ALL_STATUSES.slice(4).map((status) => [status, status] as const)];
const SORTS = [["", "newest first"], ["ended_at", "last ended first"], ["price", "dearest first"], ["status", "by state"]] as const;

export function DeploymentHistory() {
  const [q, status, sort] = [queryValue("q"), queryValue("status"), queryValue("sort")];
  const jobs = useJobRows({ role: "compute provider", q: searched(), status, sort }, moment.value, DEPLOYED).value;
  void jobs?.version.value;
  const total = jobs?.list.total ?? 0;
  usePageTitle("Jobs that ran here");
  const filtered = searched() !== "" || status !== "";
  return (
    <section>
      <h1>Jobs that ran here</h1>
      <Filters q={q} status={status} sort={sort} />
      <Trouble text={jobs?.error.value ?? ""} retry={() => jobs?.reload()} />
      <Announced of={jobs} text={jobs?.ready.value ? counted(total, "job") : ""} />
      {jobs?.ready.value && total === 0 && (
        <Empty title={filtered ? "No job fits" : "No job has run here yet"}>
          {filtered ? <button onClick={() => setQuery({ q: "", status: "" })}>Clear the filters</button> : <p>Onboard this machine and switch it online; jobs come by themselves. <a href={href("/cp")}>This machine</a></p>}
        </Empty>
      )}
      {jobs && total > 0 && (
        <>
          <p class="faint" data-testid="count">{counted(total, "job")}{filtered && <> fit · <button class="quiet" onClick={() => setQuery({ q: "", status: "" })}>clear</button></>}</p>
          <div class="rows deployments heads" aria-hidden="true"><div class="item"><span>State</span><span>Image</span><span>Price</span><span>For</span><span>Ran</span><span>Ended, or asked for</span></div></div>
          <VirtualList class="rows deployments" count={total} rowPx={ROW_PX} label="Jobs that ran here" seen={(first, last) => jobs.seen(first, last)} row={(index) => <Row key={jobs.keyOf(index)} job={jobs.list.get(index)} />} />
        </>
      )}
    </section>
  );
}

function Filters({ q, status, sort }: { q: string; status: string; sort: string }) {
  return (
    <p class="row">
      <input type="search" maxLength={200} aria-label="Search by id, image, peer or reason" placeholder="id, image, peer, reason" value={q} onInput={(event) => setQuery({ q: event.currentTarget.value })} />
      <select aria-label="State" value={status} onChange={(event) => setQuery({ status: event.currentTarget.value })}>
        {GROUPS.map(([value, name]) => <option value={value}>{name}</option>)}
      </select>
      <select aria-label="Order" value={sort} onChange={(event) => setQuery({ sort: event.currentTarget.value })}>
        {SORTS.map(([value, name]) => <option value={value}>{name}</option>)}
      </select>
    </p>
  );
}

function Row({ job }: { job: Deployment | undefined }) {
  if (!job) return <div class="item faint" role="listitem">…</div>;
  return (
    <div class="item" role="listitem">
      <Status status={job.status} />
      <a href={href(`/cp/jobs/${job.job_id}`)} title={plain(job.reason || job.image)}>{plain(job.image || job.service_type)}</a>
      <span>{ntx(job.price)}</span>
      <Peer id={job.peer} />
      <span>{job.duration_seconds ? duration(job.duration_seconds) : "–"}</span>
      <Time at={job.ended_at ?? job.requested_at} />
    </div>
  );
}
