/** Earnings job by job, the last ended first, of any number. */
import { ntx, plain } from "../../app/format";
import { DEPLOYED, useJobRows } from "../../app/job_rows";
import { href, moment } from "../../app/router";
import { Action } from "../../components/action";
import { Peer, Time, Trouble } from "../../components/parts";
import { VirtualList } from "../../components/virtual_list";
import { ClaimResult, useClaims, type Claims } from "./claim";
import { isNothing, rewardWords } from "./rewards";
import type { Deployment } from "../../api/answers";

const ENDED = "completed,failed,stopped";

export function EarnedByJob() {
  const jobs = useJobRows({ role: "compute provider", status: ENDED, sort: "ended_at" }, moment.value, DEPLOYED).value;
  void jobs?.version.value;
  const total = jobs?.list.total ?? 0;
  const claims = useClaims();
  return (
    <>
      <Trouble text={jobs?.error.value ?? ""} />
      <ClaimResult claims={claims} />
      <p class="faint">All jobs that are over, the last ended first.</p>
      {total > 0 && (
        <div class="rows earned-jobs heads" aria-hidden="true"><div class="item"><span>Earned</span><span>Image</span><span>Which is</span><span>For</span><span>Ended</span><span /></div></div>
      )}
      {jobs && total > 0 && (
        <VirtualList class="rows earned-jobs" count={total} rowPx={44} label="Earnings by job" seen={(first, last) => jobs.seen(first, last)} row={(index) => <Row key={jobs.keyOf(index)} job={jobs.list.get(index)} claims={claims} />} />
      )}
    </>
  );
}

function Row({ job, claims }: { job: Deployment | undefined; claims: Claims }) {
  if (!job) return <div class="item faint" role="listitem">…</div>;
  const open = job.paid && !job.claimed && !job.settled && !isNothing(job.cost);
  return (
    <div class="item" role="listitem">
      <b>{ntx(job.cost || "0")}</b>
      <a href={href(`/cp/jobs/${job.job_id}`)} title={job.job_id}>{plain(job.image || job.service_type)}</a>
      <span title={rewardWords(job)}>{rewardWords(job)}</span>
      <Peer id={job.peer} />
      <Time at={job.ended_at} />
      <span>{open && <Action need="claim rewards and refunds" busy={claims.busy.value} label={`Claim the reward of job ${job.job_id}`} onClick={() => void claims.claim(job.job_id)}>Claim</Action>}</span>
    </div>
  );
}
