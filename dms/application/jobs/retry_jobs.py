"""Takes a job whose attempt failed to the next provider: one that has not failed it yet, if there is any, from its
newest checkpoint, on the payment that there is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver
from dms.application.jobs.preflight import Preflight, Wanted
from dms.application.jobs.provider_search import Found, ProviderSearch
from dms.application.lasting import MOST_REMEMBERED, Lasting
from dms.application.loops import said
from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import OutputStore
from dms.application.reactors import News, Reactor
from dms.backoff import Backoff, nth_pause
from dms.domain.checkpoint import ResumeFrom
from dms.domain.job import Job, JobState
from dms.domain.matching import Rule
from dms.domain.retry import deployment_id
from dms.domain.run_time import Instant
from dms.errors import Conflict, InvalidInput, NoProviderMatches, OutputUnavailable, Unavailable
from dms.recent import Recent

log = logging.getLogger(__name__)

LOOK_SECONDS = (1.0, 30.0)  # first and longest pause between two looks for a provider
HOLD_SECONDS = 60  # from the choice of a provider until the attempt is with it
AGAIN_SECONDS = (5.0, 60.0)  # until one that failed the job may have it again: twice as long each time, at most
TROUBLE_SECONDS = 60.0  # until a job goes on without what this machine's disk does not give
CHECKPOINT_SECONDS, CHECKPOINT_BYTES_A_SECOND = 120.0, 100_000.0  # how long the last checkpoint is waited for


class RetryJobs(Reactor[Job]):
    name = "further attempts"
    kind = Job

    def __init__(
        self,
        log: EventLog,
        outputs: OutputStore,
        checkpoints: CheckpointReceiver,
        search: ProviderSearch,
        preflight: Preflight,
        default_target: Callable[[], str],
        patience_seconds: float,
        clock: Callable[[], Instant],
    ) -> None:
        """default_target: the only peer that jobs go to which name none; empty for any. patience_seconds: how long a
        provider is looked for. clock: of this machine."""
        self._log, self._outputs, self._checkpoints = log, outputs, checkpoints
        self._search, self._preflight = search, preflight
        self._default_target, self._patience_seconds, self._clock = default_target, patience_seconds, clock
        self._trouble = Lasting()  # by deployment
        # By deployment that failed: what breaks the search off begins it not anew.
        self._began: Recent[str, float] = Recent(MOST_REMEMBERED)

    def due(self, aggregate: Job) -> bool:
        return aggregate.state is JobState.RETRYING

    async def react(self, aggregate: Job, news: News) -> None:
        failed = aggregate.deployment_id
        began = self._began.setdefault(failed, asyncio.get_running_loop().time())
        await self._wait_for_checkpoint(aggregate, news, began)
        await self._arrange(aggregate, news, began)
        self._trouble.forget(failed)
        self._began.pop(failed, None)

    async def _arrange(self, aggregate: Job, news: News, began: float) -> None:
        clock, backoff = asyncio.get_running_loop().time, Backoff(*LOOK_SECONDS)
        again_after = nth_pause(aggregate.attempt.number, *AGAIN_SECONDS)
        while (job := self._retried(aggregate.key)) is not None:
            resume = await self._kept(job)
            try:
                found = await self._find(job, resume, again=clock() - began >= again_after)
            except (NoProviderMatches, InvalidInput) as error:
                if clock() - began >= self._patience_seconds:
                    await self._end(job.key, f"for {self._patience_seconds:g} s no provider could go on: {error}")
                    return
                await news.changed(backoff.next())
                continue
            await self._start(job.key, found, resume)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        await self._end(aggregate.key, f"this node failed to try it again: {said(error)}")

    async def _wait_for_checkpoint(self, job: Job, news: News, began: float) -> None:
        """The provider may have saved one at the end; where it is lost, so is what it did not send."""
        wanted, clock = job.checkpoint_wanted, asyncio.get_running_loop().time
        if wanted is None or not job.attempt.ended_there:
            return
        deadline = began + CHECKPOINT_SECONDS + wanted.size_bytes / CHECKPOINT_BYTES_A_SECOND
        while (now := self._retried(job.key)) is not None and now.checkpoint_wanted is not None:
            if not await news.changed(deadline - clock()):
                return

    async def _find(self, job: Job, resume: ResumeFrom | None, *, again: bool) -> Found:
        """again: also one that failed the job, when no other can take it. Raises NoProviderMatches, InvalidInput."""
        if job.request is None:
            raise Conflict(f"job {job.key} has no request")
        minutes = job.minutes_to_give(resume)
        wanted = replace(job.request.for_attempt(minutes), max_ntx=float(job.price))  # what was paid is the limit
        target = wanted.params.node_id or self._default_target()
        others = Rule(excluded=frozenset(attempt.provider for attempt in job.attempts))
        asked = Wanted(wanted, resume, HOLD_SECONDS, deployment_id(job.key, job.attempt.number + 1))
        try:
            return await self._placed(asked, target, others)
        except NoProviderMatches:
            if not again:
                raise
        untold = frozenset(attempt.provider for attempt in job.attempts_to_tell)  # it may still run there
        return await self._placed(asked, target, Rule(excluded=untold))

    async def _placed(self, asked: Wanted, target: str, rule: Rule) -> Found:
        """Who has said that it can take it, first. Raises NoProviderMatches, InvalidInput."""
        found = await self._search.find(asked.request, target, rule)
        placed = await self._preflight.place(asked, found, target)
        return found._replace(there=[placed.candidate], match=placed.recorded_with(found.match))

    async def _start(self, job_id: str, found: Found, resume: ResumeFrom | None) -> None:
        job = self._retried(job_id)
        if job is None:
            return
        lines = job.attempt.lines_before + await self._lines_of(job)
        job = self._retried(job_id)
        if job is not None:
            chosen, match = found.chosen, found.match
            # Made now, it is on the disk with the decision: after a restart the provider is sent the same one.
            self._log.seal_key(deployment_id(job.key, job.attempt.number + 1))
            job.start_attempt(
                chosen.peer_id, chosen.payee, resume, lines, match.refused, match.refused_count, self._clock()
            )
            await self._log.save(job)

    async def _kept(self, job: Job) -> ResumeFrom | None:
        """What it goes on from; None also once that could not be used for too long. Raises Unavailable."""
        try:
            return await self._checkpoints.keep_for_next_attempt(job)
        except Unavailable as error:
            if not self._trouble.has_lasted(job.deployment_id, TROUBLE_SECONDS):
                raise
            log.error("job %s is tried again without its checkpoint: %s", job.key, error, extra={"job_id": job.key})
            return None

    async def _lines_of(self, job: Job) -> int:
        """How many its last attempt left. Raises Unavailable."""
        try:
            return await self._outputs.last(job.deployment_id)
        except OutputUnavailable as error:
            if not self._trouble.has_lasted(job.deployment_id, TROUBLE_SECONDS):
                raise
            log.error(
                "job %s is tried again as if it had printed nothing: %s", job.key, error, extra={"job_id": job.key}
            )
            return 0

    async def _end(self, job_id: str, reason: str) -> None:
        job = self._retried(job_id)
        if job is not None:
            job.not_repeated(reason)
            await self._log.save(job)

    def _retried(self, job_id: str) -> Job | None:
        """The job, as long as it waits for its next attempt."""
        job = self._log.load(Job, job_id)
        return job if job is not None and self.due(job) else None
