/** The jobs that run here now: for whom, what they use, how long they have left, and [End]. */
import { cpu, memory, ntx, plain } from "../../app/format";
import { href, moment } from "../../app/router";
import { now } from "../../app/clock";
import { Action } from "../../components/action";
import { Empty, Peer, Trouble } from "../../components/parts";
import { Sparkline } from "../../components/sparkline";
import { Status } from "../../components/status";
import { leftWords, secondsLeft } from "./deployments";
import { endingJob, type FollowedMachine } from "./machine";
import type { Deployment, Sample } from "../../api/answers";
import type { Usage } from "./usage";

/** Of a sparkline: ten minutes at a sample every ten seconds. */
const SHOWN_SAMPLES = 60;

export function Running({ machine, usage }: { machine: FollowedMachine; usage: Usage }) {
  const jobs = machine.running.value;
  const coreMhz = (machine.row.value?.total.cpu_mhz ?? 0) / (usage.cores || 1);
  return (
    <div class="card">
      <h2>{`Running jobs: ${jobs.length}`}</h2>
      <Trouble text={machine.deployments.error.value} retry={machine.deployments.reload} />
      {jobs.length === 0 && machine.deployments.answer.value && (
        <Empty title="No job runs here just now">
          <p>You need do nothing: when somebody asks for a job that fits this machine, it is shown here at once.</p>
        </Empty>
      )}
      {jobs.length > 0 && (
        <div class="scroll">
          <table data-testid="running" class="stack">
            <thead>
              <tr><th>State</th><th>Job</th><th>For</th><th>CPU</th><th>Memory</th><th>Time</th><th class="number">Price</th><th><span class="faint">End</span></th></tr>
            </thead>
            <tbody>
              {jobs.map((job) => <RunningRow key={job.job_id} job={job} samples={usage.jobs.get(job.job_id) ?? []} coreMhz={coreMhz} />)}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}

function RunningRow({ job, samples, coreMhz }: { job: Deployment; samples: readonly Sample[]; coreMhz: number }) {
  const nowMs = moment.value ? NaN : now.value;
  const recent = samples.slice(-SHOWN_SAMPLES);
  return (
    <tr data-job={job.job_id}>
      <td><Status status={job.status} /></td>
      <td><a href={href(`/cp/jobs/${job.job_id}`)} title={job.job_id}>{plain(job.image || job.service_type)}</a></td>
      <td data-label="for"><Peer id={job.peer} /></td>
      <td data-label="CPU"><CpuSpark samples={recent} coreMhz={coreMhz} reservedMhz={job.cpu_mhz} /></td>
      <td data-label="Memory"><MemorySpark samples={recent} reservedMb={job.memory_mb} /></td>
      <td data-testid="left">{Number.isNaN(nowMs) ? `${job.minutes} min asked for` : leftWords(secondsLeft(job, nowMs))}</td>
      <td class="number">{ntx(job.price)}</td>
      <td>
        <Action need="steer jobs" kind="danger" label={`End job ${job.job_id}`} hindrance={job.status === "stopping" ? "It is being stopped." : ""} onClick={() => (endingJob.value = job)}>End</Action>
      </td>
    </tr>
  );
}

function CpuSpark({ samples, coreMhz, reservedMhz }: { samples: readonly Sample[]; coreMhz: number; reservedMhz: number }) {
  const values = samples.map(({ cpu_cores }) => (cpu_cores === null ? null : cpu_cores * coreMhz));
  const latest = values.findLast((value) => value !== null);
  const text = latest == null ? `– of ${cpu(reservedMhz)}` : `${cpu(latest)} of ${cpu(reservedMhz)}`;
  return <Sparkline values={values} highest={reservedMhz} text={text} />;
}

function MemorySpark({ samples, reservedMb }: { samples: readonly Sample[]; reservedMb: number }) {
  const values = samples.map(({ memory_mb }) => memory_mb);
  const latest = values.at(-1);
  return <Sparkline values={values} highest={reservedMb} text={`${latest === undefined ? "–" : memory(latest)} of ${memory(reservedMb)}`} />;
}
