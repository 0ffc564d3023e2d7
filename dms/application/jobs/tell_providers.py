"""Tells providers what was decided here about the jobs they run: that they are to stop them, or that they are over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dms.application.jobs.submission import REQUEST_SECONDS, RETRY_SECONDS
from dms.application.loops import said
from dms.application.network.messages import CONTROL, Terminate, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import News, Reactor
from dms.domain.attempt import Attempt
from dms.domain.job import Job, JobState
from dms.domain.retry import MOST_ATTEMPTS
from dms.errors import DmsError, Forbidden, NotFound, PeerUnreachable

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0  # after which a provider that has been told to stop a job is told again
GIVE_UP_SECONDS = 600.0  # how long a provider that can't be reached is told that a job is over, at least
LONGEST_PAUSE_SECONDS = 60.0  # between two tries, after that


class StopDeployments(Reactor[Job]):
    """For a termination that was asked for while the provider runs the job: as often as it takes."""

    name = "terminations"
    kind = Job

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network

    def due(self, aggregate: Job) -> bool:
        running = aggregate.state in (JobState.SUBMITTED, JobState.RUNNING)
        return running and aggregate.termination is not None

    def waits_for(self, aggregate: Job) -> str:
        return aggregate.provider

    async def react(self, aggregate: Job, news: News) -> None:
        pause = AGAIN_SECONDS
        try:
            await _terminate(self._network, aggregate.attempt, aggregate.termination or "")
        except PeerUnreachable:
            pause = RETRY_SECONDS[1]
        except DmsError as refused:
            log.warning("job %s: the provider does not stop it: %s", aggregate.key, refused)
        await news.changed(pause)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        """Whoever follows the job ends it when its time to stop is over."""


class RevokeDeployments(Reactor[Job]):
    """For attempts that ended here without their provider's word, which may still run them: of a job that is over, or
    that has gone on to another provider."""

    name = "revocations"
    kind = Job

    def __init__(self, log: EventLog, network: PeerNetwork, now: Callable[[], int]) -> None:
        """now: Unix time in microseconds."""
        self._log, self._network, self._now = log, network, now

    def due(self, aggregate: Job) -> bool:
        return bool(aggregate.attempts_to_tell)

    def waits_for(self, aggregate: Job) -> str:
        return next((attempt.provider for attempt in aggregate.attempts_to_tell), "")

    async def react(self, aggregate: Job, news: News) -> None:
        clock = asyncio.get_running_loop().time
        since, pause = clock(), RETRY_SECONDS[1]
        ages, joined = await self._ages(aggregate), dict[int, float]()
        while left := self._job(aggregate.key).attempts_to_tell:
            for attempt in left:
                joined.setdefault(attempt.number, clock())  # a later one may come while an earlier is not told yet
                trouble = await self._tell(aggregate.key, attempt)
                if not trouble:
                    await self._record(aggregate.key, attempt.number, "")
                elif ages.get(attempt.number, 0.0) + clock() - joined[attempt.number] >= (most := patience(attempt)):
                    said = f"not reached within {most:g} s: {trouble}"
                    await self._record(aggregate.key, attempt.number, said)
            await news.changed(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS) if clock() - since > GIVE_UP_SECONDS else pause

    async def _ages(self, job: Job) -> dict[int, float]:
        """For how many seconds each attempt was over when this began: a restart gives no patience anew."""
        topics = (Job.AttemptFailed.TOPIC, Job.Failed.TOPIC)
        found: dict[int, float] = {}
        for recorded in await self._log.read(0, 2 * MOST_ATTEMPTS, topics=topics, stream=f"{Job.KIND}-{job.key}"):
            number = recorded.event.attempt if isinstance(recorded.event, Job.AttemptFailed) else job.attempt.number
            found.setdefault(number, max(0.0, (self._now() - recorded.time) / 1_000_000))
        return found

    async def _tell(self, job_id: str, attempt: Attempt) -> str:
        """Why the provider could not be told; empty once it was."""
        job = self._job(job_id)
        revoked = attempt.number != job.attempt.number or job.state in (JobState.RETRYING, JobState.COMPLETED)
        reason = attempt.failure or job.failure or "the job is over"
        try:
            await _terminate(self._network, attempt, reason, revoked=revoked)
        except (NotFound, Forbidden) as refused:  # it does not have the job
            log.info("job %s: its provider says: %s", job_id, refused)
        except DmsError as error:  # away, or in trouble of its own: it may still run the job
            return str(error)
        return ""

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        for attempt in aggregate.attempts_to_tell:
            await self._record(aggregate.key, attempt.number, f"it could not be told by this node: {said(error)}")

    async def _record(self, job_id: str, number: int, trouble: str) -> None:
        job = self._job(job_id)
        if job.telling_given_up(trouble, number) if trouble else job.provider_told(number):
            await self._log.save(job)

    def _job(self, job_id: str) -> Job:
        job = self._log.load(Job, job_id)
        if job is None:
            raise NotFound(f"no job {job_id} here")
        return job


def patience(attempt: Attempt) -> float:
    """Seconds. Behind its time limit nothing of it runs any more."""
    return max(GIVE_UP_SECONDS, attempt.minutes * 60.0)


async def _terminate(network: PeerNetwork, attempt: Attempt, reason: str, *, revoked: bool = False) -> None:
    body = encode(Terminate(job_id=attempt.deployment_id, reason=reason[:1000], revoked=revoked))
    await network.request(attempt.provider, CONTROL, body, REQUEST_SECONDS)
