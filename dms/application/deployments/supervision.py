"""A container from its start to its end: its output is kept, its limit is enforced, its end is recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper
from dms.application.deployments.endings import Endings
from dms.application.deployments.usage import UsageWatch
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Execution, ExecutionState, Executor, NetworkUse
from dms.application.ports.outputs import OutputStore
from dms.application.reactors import News
from dms.application.tasks import background, cancelled, either
from dms.backoff import Backoff
from dms.domain.deployment import MICROSECONDS, Deployment, DeploymentState, Fault
from dms.domain.network import Network
from dms.domain.run_end import RunEnd, Verdict, judge
from dms.domain.run_time import Instant, RunTime
from dms.errors import DmsError, OutputUnavailable

log = logging.getLogger(__name__)

MIB = 1024 * 1024
NETWORK_LOOK_SECONDS = 10.0
STOP_GRACE_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 60.0  # between two looks at the limit: timers stand still while the machine sleeps
LOST = "the provider lost what the job left"
UNSEALED = "the provider could not keep what the job printed"
OUTPUT_RETRY_SECONDS = (1.0, 60.0)  # first and longest pause between tries to keep output
STEADY_SECONDS = 120.0  # a try that lasted so long ended the trouble before it
OVER_SECONDS = 1.0  # between two looks at a container at its limit, while what it printed is still read
GROWING_PAUSES_SECONDS = (1.0, 5.0, 30.0, 120.0)  # between tries to watch lines that grow
NOT_RUN = (ExecutionState.ABSENT, ExecutionState.CREATED)


class Supervision:
    def __init__(
        self,
        log: EventLog,
        executor: Executor,
        outputs: OutputStore,
        checkpoints: CheckpointKeeper,
        endings: Endings,
        clock: Callable[[], Instant],
        usage: UsageWatch,
        loops: Loops,
    ) -> None:
        """clock: of this machine, where the containers run."""
        self._log, self._executor, self._outputs, self._clock = log, executor, outputs, clock
        self._checkpoints, self._endings, self._usage, self._loops = checkpoints, endings, usage, loops

    async def supervise(self, job_id: str, news: News) -> None:
        """Follows the container until it has ended; stops it when told to, or at its time limit."""
        if not _started_again(self._endings.load(job_id), await self._executor.inspect(job_id)):
            async with self._following(job_id) as following:
                while not following.done():
                    await self._stop_if_due(job_id)
                    await either(following, news.changed(self._until_limit(job_id)))
                following.result()
        await self.conclude(job_id)

    async def stop(self, job_id: str, news: News) -> None:
        """As it was told to, also when it never ran."""
        await self._executor.stop(job_id, STOP_GRACE_SECONDS)
        if (await self._executor.inspect(job_id)).state in NOT_RUN:
            await self._endings.record(job_id, Deployment.stopped)
        else:
            await self.supervise(job_id, news)

    async def conclude_without_engine(self, job_id: str, reason: str) -> None:
        """Of one whose engine stays away: an order to stop it explains its end all the same."""
        now = self._clock()

        def end(deployment: Deployment) -> None:
            seconds = run_time(deployment).lasted_seconds(now, 0, 0) if deployment.ran else 0.0
            if deployment.stop is None:
                deployment.fail(reason, Fault.PROVIDER, duration_seconds=seconds)
            else:
                deployment.stopped(seconds)

        await self._endings.record(job_id, end)

    async def conclude(self, job_id: str) -> None:
        """Records what became of a container whose run is over, or that is gone."""
        execution = await self._executor.inspect(job_id)
        if execution.state is ExecutionState.RUNNING and not _started_again(self._endings.load(job_id), execution):
            return
        use = await self._executor.network_use(job_id)
        now = self._clock()
        await self._endings.record(job_id, lambda deployment: _end(deployment, execution, use, now))

    @asynccontextmanager
    async def _following(self, job_id: str) -> AsyncIterator[asyncio.Task[None]]:
        """Its output and its checkpoints are kept meanwhile."""
        following = asyncio.create_task(self._follow(job_id), name=f"output of {job_id}")
        counting = self._counting(job_id)
        saving = asyncio.create_task(self._checkpoints.watch(job_id), name=f"checkpoints of {job_id}")
        growing = background(self._watch_growing(job_id), f"growing lines of {job_id}")
        using = self._usage.watch(job_id, self._endings.load(job_id).gpu_uuids)
        try:
            yield following
        finally:
            await cancelled(following)
            if counting is not None:
                await counting.close()
            await cancelled(saving)
            await cancelled(growing)
            await using.close()
            self._outputs.growing.end(job_id)

    async def _watch_growing(self, job_id: str) -> None:
        """For who watches: the job goes on without it. The engine may be away for a while."""
        for pause_seconds in GROWING_PAUSES_SECONDS:
            try:
                async with aclosing(self._executor.growing(job_id)) as lines:
                    async for line in lines:
                        self._outputs.growing.tell(job_id, line)
            except DmsError as error:
                log.info("lines of job %s that grow are not shown: %s", job_id, error)
            await asyncio.sleep(pause_seconds)

    async def _follow(self, job_id: str) -> None:
        """Keeps its output until it has ended. While that can't be kept the job runs on: the engine has it all."""
        clock, backoff = asyncio.get_running_loop().time, Backoff(*OUTPUT_RETRY_SECONDS)
        while True:
            began = clock()
            try:
                await self._keep_output(job_id)
            except OutputUnavailable as error:
                if clock() - began >= STEADY_SECONDS:
                    self._endings.output_works(job_id)
                    backoff.reset()
                log.warning("the output of job %s waits: %s", job_id, error, extra={"job_id": job_id})
                if self._endings.output_waits_too_long(job_id) and not await self._runs(job_id):
                    self._endings.give_up_output(job_id, error)
                    return
            else:
                self._endings.output_works(job_id)
                return
            await asyncio.sleep(backoff.next())

    async def _keep_output(self, job_id: str) -> None:
        cursor = await self._outputs.cursor(job_id)
        async with aclosing(self._executor.follow(job_id, cursor)) as batches:
            async for lines in batches:
                await self._outputs.append(job_id, lines)
                self._endings.output_works(job_id)

    async def _runs(self, job_id: str) -> bool:
        return (await self._executor.inspect(job_id)).state is ExecutionState.RUNNING

    def _counting(self, job_id: str) -> Loop | None:
        """None for a job without a network."""
        if self._endings.load(job_id).network is Network.NONE:
            return None
        return self._loops.every(NETWORK_LOOK_SECONDS, "networks of running jobs", lambda: self._watch_network(job_id))

    async def _watch_network(self, job_id: str) -> None:
        """Stops it when it has used up its share, or has lost its network."""
        try:
            await self._look_at_network(job_id)
        except DmsError as error:
            log.info("the network of job %s can't be looked at now: %s", job_id, error)

    async def _look_at_network(self, job_id: str) -> None:
        use = await self._executor.network_use(job_id)
        deployment = self._endings.load(job_id)
        if use is None or deployment.state is not DeploymentState.RUNNING:
            return
        if use.trouble and await self._runs(job_id):
            deployment.request_stop("network", use.trouble, Fault.PROVIDER)
        elif use.spent:
            reason = f"network limit of {use.most_bytes // MIB} MiB reached"
            deployment.request_stop("network limit", reason, Fault.REQUESTER)
        await self._log.save(deployment)

    def _until_limit(self, job_id: str) -> float | None:
        deployment = self._endings.load(job_id)
        if deployment.state is not DeploymentState.RUNNING:
            return None
        return min(LONGEST_WAIT_SECONDS, run_time(deployment).left_seconds(self._clock()) or OVER_SECONDS)

    async def _stop_if_due(self, job_id: str) -> None:
        deployment = self._endings.load(job_id)
        if deployment.state is DeploymentState.RUNNING and run_time(deployment).is_over(self._clock()):
            deployment = await self._order_stop_at_limit(job_id)
        if deployment.state is DeploymentState.STOPPING:
            await self._executor.stop(job_id, STOP_GRACE_SECONDS)

    async def _order_stop_at_limit(self, job_id: str) -> Deployment:
        """Unless its run is over, or was ended, before anybody could order it: while this program was down, perhaps."""
        execution = await self._executor.inspect(job_id)
        deployment = self._endings.load(job_id)
        if execution.state is ExecutionState.RUNNING and not _started_again(deployment, execution):
            reason = f"time limit of {deployment.minutes} min reached"
            if deployment.request_stop("time limit", reason, Fault.REQUESTER):
                await self._log.save(deployment)
        return deployment


def run_time(deployment: Deployment) -> RunTime:
    """Of one that was started."""
    limit_us = deployment.minutes * 60 * MICROSECONDS
    started = Instant(deployment.boot_id, deployment.started_boot_us, deployment.stops_at - limit_us)
    return RunTime(started, limit_us)


def _end(deployment: Deployment, execution: Execution, use: NetworkUse | None, now: Instant) -> None:
    """What a container that does not run any more means for its deployment. One that failed without the network that
    it was given could not do better."""
    gone = execution.state in NOT_RUN
    verdict = judge(
        stop_ordered=deployment.stop is not None,
        ended_by=execution.ended_by,
        gone=gone,
        started_again=not gone and _started_again(deployment, execution),
        error=execution.error,
    )
    seconds = _lasted_seconds(deployment, execution, now)
    if verdict.end is not RunEnd.FAILED and deployment.results_fault.of_provider:
        verdict = Verdict(RunEnd.FAILED, f"{LOST}: {deployment.results_trouble}")
    if verdict.end is not RunEnd.FAILED and not deployment.log_sealed and deployment.stop is None:
        verdict = Verdict(RunEnd.FAILED, UNSEALED)
    if verdict.end is RunEnd.EXITED and execution.exit_code and use is not None and use.trouble:
        verdict = Verdict(RunEnd.FAILED, use.trouble)
    if verdict.end is RunEnd.FAILED:
        deployment.fail(verdict.reason, Fault.PROVIDER, execution.exit_code, seconds)
    elif gone:
        deployment.stopped(seconds)
    else:
        code = -1 if execution.exit_code is None else execution.exit_code
        received, sent = (use.received_bytes, use.sent_bytes) if use else (0, 0)
        deployment.exited(code, execution.oom_killed, seconds, received_bytes=received, sent_bytes=sent)


def _started_again(deployment: Deployment, execution: Execution) -> bool:
    """By somebody else: the run that was recorded is over, whatever the container does now."""
    recorded = run_time(deployment).started.wall_us if deployment.stops_at else 0
    return bool(recorded and execution.started_at) and recorded != execution.started_at


def _lasted_seconds(deployment: Deployment, execution: Execution, now: Instant) -> float:
    if execution.ran_seconds is not None:
        return execution.ran_seconds
    if deployment.stops_at:
        return run_time(deployment).lasted_seconds(now, execution.started_at, execution.finished_at)
    return max(0, execution.finished_at - execution.started_at) / MICROSECONDS
