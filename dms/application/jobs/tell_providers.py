"""Tells providers what was decided here about the jobs they run: that they are to stop them, or that they are over."""

from __future__ import annotations

import asyncio
import logging

from dms.application.jobs.submission import REQUEST_SECONDS, RETRY_SECONDS
from dms.application.loops import said
from dms.application.network.messages import CONTROL, Terminate, encode
from dms.application.ports import EventLog, PeerNetwork
from dms.application.reactors import News, Reactor
from dms.domain.job import Job, JobState
from dms.errors import DmsError, PeerUnreachable, Unavailable

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0  # after which a provider that has been told to stop a job is told again
GIVE_UP_SECONDS = 600.0  # how long a provider that can't be reached is told that a job is over


class StopDeployments(Reactor[Job]):
    """For a termination that was asked for while the provider runs the job: as often as it takes."""

    name = "terminations"
    kind = Job

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network

    def due(self, aggregate: Job) -> bool:
        running = aggregate.state in (JobState.SUBMITTED, JobState.RUNNING)
        return running and aggregate.termination is not None

    async def react(self, aggregate: Job, news: News) -> None:
        pause = AGAIN_SECONDS
        try:
            await _terminate(self._network, aggregate, aggregate.termination or "")
        except PeerUnreachable:
            pause = RETRY_SECONDS[1]
        except DmsError as refused:
            log.warning("job %s: the provider does not stop it: %s", aggregate.key, refused)
        await news.changed(pause)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        """Whoever follows the job ends it when its time to stop is over."""


class RevokeDeployments(Reactor[Job]):
    """For a job that ended here without the provider's word, which may still run it."""

    name = "revocations"
    kind = Job

    def __init__(self, log: EventLog, network: PeerNetwork) -> None:
        self._log, self._network = log, network

    def due(self, aggregate: Job) -> bool:
        return aggregate.provider_to_tell

    async def react(self, aggregate: Job, news: News) -> None:
        clock = asyncio.get_running_loop().time
        deadline, reason, trouble = clock() + GIVE_UP_SECONDS, aggregate.failure or "the job is over", ""
        while clock() < deadline:
            try:
                await _terminate(self._network, aggregate, reason)
            except Unavailable as error:  # away, or it can't write just now
                trouble = str(error)
                await news.changed(RETRY_SECONDS[1])
                continue
            except DmsError as refused:  # it never had the job, or has ended it
                log.info("job %s: its provider says: %s", aggregate.key, refused)
            await self._record(aggregate.key, "")
            return
        await self._record(aggregate.key, f"not reached within {GIVE_UP_SECONDS:g} s: {trouble}")

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        await self._record(aggregate.key, f"it could not be told by this node: {said(error)}")

    async def _record(self, job_id: str, trouble: str) -> None:
        job = self._log.load(Job, job_id)
        if job is not None and (job.telling_given_up(trouble) if trouble else job.provider_told()):
            await self._log.save(job)


async def _terminate(network: PeerNetwork, job: Job, reason: str) -> None:
    body = encode(Terminate(job_id=job.key, reason=reason[:1000]))
    await network.request(job.provider, CONTROL, body, REQUEST_SECONDS)
