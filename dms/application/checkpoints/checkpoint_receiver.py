"""Checkpoints on the service provider: fetches what the providers of our jobs have saved, and gives what new
jobs go on from to their providers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from dms.application.cause import caused_by
from dms.application.checkpoints.checkpoint_files import SUFFIX, CheckpointFiles, StoredCheckpoint
from dms.application.checkpoints.checkpoint_keeper import KIND, RESUME_KIND
from dms.application.deadlines import Deadlines
from dms.application.files.file_exchange import FileExchange, FileRef
from dms.application.files.file_parts import digest_of, open_regular, opened
from dms.application.files.receipts import Receipt
from dms.application.loops import said
from dms.application.network.messages import CHECKPOINT, CheckpointNote, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import News, Reactor
from dms.application.unread import stays_if_unread
from dms.disk import publish
from dms.domain.attempt import Attempt
from dms.domain.checkpoint import ResumeFrom, archive_bound
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.domain.request import ServiceRequest
from dms.domain.retry import deployment_id, job_of
from dms.domain.run_time import Instant
from dms.errors import ArchiveRefused, Conflict, Forbidden, InvalidInput, NotFound, PeerMisbehaved, Unavailable
from dms.long_work import long_work

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
WRONG_CONTENTS = 3  # as often it may be replaced by another of its size while we read


class CheckpointReceiver:
    def __init__(
        self,
        log: EventLog,
        network: PeerNetwork,
        files: CheckpointFiles,
        exchange: FileExchange,
        check: Callable[[Path, int], Awaitable[None]],
        now: Callable[[], int],
        *,
        grace_seconds: float,
        max_bytes: int,
    ) -> None:
        """check: (archive, bytes of content at most) raises ArchiveRefused. now: Unix time in microseconds.
        grace_seconds: how long one is tried to be fetched."""
        self._log, self._network, self._files, self._exchange = log, network, files, exchange
        self._check, self._deadlines = check, Deadlines(now, grace_seconds)  # by job and number
        self._grace_seconds, self._max_bytes = grace_seconds, max_bytes

    def serve(self) -> None:
        self._exchange.serve(RESUME_KIND, self._may_read, self._resolve)

    def tidy(self) -> None:
        """Takes away what was given to providers for jobs that are over."""
        self._files.drop_resumes(self._is_needed)

    @property
    def most_bytes(self) -> int:
        """Of content, of one job."""
        return self._max_bytes

    # --- fetching -------------------------------------------------------------------------------
    def offer(self, job: Job, saved: Deployment.CheckpointSaved, now: Instant | None = None) -> None:
        """Decides only; the caller saves the job. now: by this machine's clocks. Raises PeerMisbehaved."""
        until = self._deadlines.begin(_key(job.key, job.attempt.checkpoints_before + saved.number))
        job.offer_checkpoint(saved, until, archive_bound(self._max_bytes), now)

    async def fetch(self, job_id: str, offered: Job.CheckpointOffered, news: News) -> None:
        """Until it is here or can't be had; or returns when a newer one was offered."""
        clock, attempt = asyncio.get_running_loop().time, self._job(job_id).attempt
        receipt, target = self._receipt(attempt, offered), self._files.received(job_id)
        if await digest_of(target, offered.size_bytes) == offered.sha256:  # of a try that a crash ended, however late
            await self._keep(job_id, offered, target, receipt, news)
            return
        left = self._deadlines.left_seconds(_key(job_id, offered.number), offered.fetch_until)
        deadline, wrong = clock() + left, 0
        while self._job(job_id).checkpoint_wanted == offered:
            if clock() >= deadline:
                await self.lose(job_id, offered, f"it could not be fetched within {self._grace_seconds:g} s")
                return
            try:  # what the provider answers; not what our log does
                async with asyncio.timeout_at(deadline):
                    found = await news.during(
                        self._fetch(attempt, offered, self._files.incoming(job_id)),
                        lambda: self._is_awaited(job_id, offered),
                        f"checkpoint of {job_id}",
                    )
            except TimeoutError:
                continue
            except (Conflict, NotFound) as error:  # it was replaced meanwhile, and we are told soon
                log.info("checkpoint %d of job %s: %s", offered.number, job_id, error)
            except PeerMisbehaved as error:
                wrong += 1
                if wrong >= WRONG_CONTENTS:
                    await self.lose(job_id, offered, str(error))
            except (ArchiveRefused, Forbidden, InvalidInput) as error:
                await self.lose(job_id, offered, str(error))
            else:
                if found is not None:
                    await self._keep(job_id, offered, found, receipt, news)
                return
            await news.changed(RETRY_SECONDS)

    def _is_newest(self, job_id: str, offered: Job.CheckpointOffered) -> bool:
        """Whether it is here, and no newer one is to come."""
        job = self._job(job_id)
        received = job.checkpoint_received
        return received is not None and received.number >= offered.number and job.checkpoint_wanted is None

    def _is_awaited(self, job_id: str, offered: Job.CheckpointOffered) -> bool:
        """Whether the job has not gone on without it; a newer one may have been offered."""
        return self._job(job_id).checkpoint_settled < offered.number

    async def _keep(
        self, job_id: str, offered: Job.CheckpointOffered, found: Path, receipt: Receipt, news: News
    ) -> None:
        target = self._files.received(job_id)
        if not self._is_awaited(job_id, offered):
            return
        if found != target:
            await asyncio.to_thread(publish, found, target)
        await receipt.give()
        job = self._job(job_id)
        if job.checkpoint_is_here(offered, target.name):
            with caused_by(new_id()):
                await self._log.save(job)
            await receipt.give_again(news, self._grace_seconds, lambda: self._is_newest(job_id, offered))

    async def _fetch(self, attempt: Attempt, offered: Job.CheckpointOffered, incoming: Path) -> Path:
        """Where it is, whole and checked."""
        ref = FileRef(
            kind=KIND,
            id=attempt.deployment_id,
            name=offered.name,
            size_bytes=offered.size_bytes,
            sha256=offered.sha256,
        )
        await self._exchange.fetch(attempt.provider, ref, incoming)
        try:
            await self._check(incoming, self._max_bytes)
        except ArchiveRefused:
            self._files.drop(incoming)
            raise
        return incoming

    def _receipt(self, attempt: Attempt, offered: Job.CheckpointOffered) -> Receipt:
        note = CheckpointNote(job_id=attempt.deployment_id, sha256=offered.sha256)
        return Receipt(self._network, attempt.provider, CHECKPOINT, encode(note))

    async def lose(self, job_id: str, offered: Job.CheckpointOffered, reason: str) -> None:
        job = self._job(job_id)
        if job.lose_checkpoint(offered.number, reason):
            log.warning("checkpoint %d of job %s is lost: %s", offered.number, job_id, reason)
            with caused_by(new_id()):
                await self._log.save(job)
        self._files.drop(self._files.incoming(job_id))

    async def listed(self) -> list[StoredCheckpoint]:
        """What was received and is here, by name. Raises Unavailable."""
        return await asyncio.to_thread(self._files.list_received)

    def opened(self, name: str) -> contextlib.AbstractContextManager[int]:
        """One of the list, to be read. Raises NotFound, Unavailable."""
        return self._files.open_received(name)

    # --- going on from one -------------------------------------------------------------------------
    def source_of(self, request: ServiceRequest) -> Path | None:
        """The archive that the request wants to go on from. Raises InvalidInput."""
        resume = request.params.resume_job
        if resume is None or not resume.resume:
            return None
        return self._files.find_received(resume.progress_file)

    def job_of(self, source: Path) -> str:
        """The id of the job whose archive it is, as its name says."""
        return source.name.removesuffix(SUFFIX)

    async def described(self, source: Path) -> ResumeFrom:
        """What a provider is asked whether it can begin with, while nothing is kept for it: as it was received; a file
        that was put there, as it is now. Raises InvalidInput when it is gone, Unavailable."""
        of = self._log.load(Job, source.name.removesuffix(SUFFIX))
        if of is not None and (received := of.checkpoint_received) is not None:
            return ResumeFrom(name=source.name, size_bytes=received.size_bytes, sha256=received.sha256)
        return await long_work(self._files.described, source)

    async def keep(self, source: Path, job_id: str) -> ResumeFrom:
        """For the provider to fetch, until the job is over. Raises InvalidInput, Unavailable."""
        kept = await long_work(self._files.take, source, job_id)
        of = self._log.load(Job, source.name.removesuffix(SUFFIX))
        known = [] if of is None else [one.sha256 for one in (of.checkpoint_received, of.checkpoint_offered) if one]
        if known and kept.sha256 not in known:
            self.forget(job_id)
            what = f"is damaged: it was received with SHA-256 {known[0]}, and has {kept.sha256} now"
            raise InvalidInput(
                f"checkpoint {source.name} {what}; go on from another one, or begin anew",
                [("/params/resume_job/progress_file", what)],
            )
        return kept

    async def keep_for_next_attempt(self, job: Job) -> ResumeFrom | None:
        """The newest checkpoint of it that is here, or what its last attempt went on from; None for none. Raises
        Unavailable, also while the newest is here and not recorded yet: its provider is told first."""
        received, wanted = job.checkpoint_received, job.checkpoint_wanted
        sources = [self._files.received(job.key)] if received is not None or wanted is not None else []
        sources += [self._files.resume_out(job.deployment_id)] if job.resume is not None else []
        digests = {one.sha256 for one in (received, job.resume) if one is not None}
        next_one = deployment_id(job.key, job.attempt.number + 1)
        for source in sources:
            with contextlib.suppress(InvalidInput):  # it is gone
                kept = await long_work(self._files.take, source, next_one)
                if kept.sha256 in digests:
                    return kept
                if wanted is not None and kept.sha256 == wanted.sha256:
                    raise Unavailable(f"checkpoint {wanted.number} of job {job.key} is not recorded yet")
                log.warning("job %s: %s is damaged, the next attempt does not go on from it", job.key, source)
        self.forget(next_one)
        return None

    def forget(self, deployment: str) -> None:
        self._files.drop(self._files.resume_out(deployment))

    def _may_read(self, peer_id: str, deployment: str) -> bool:
        job = self._log.load(Job, job_of(deployment))
        return job is not None and job.resume is not None and job.is_run_by(peer_id, deployment)

    async def _resolve(self, _peer_id: str, deployment: str) -> int | None:
        return await opened(open_regular, self._files.resume_out(deployment))

    def _is_needed(self, job_id: str) -> bool:
        """Of either role: what is left of a job that is over may go. job_id: or that of an attempt."""
        with stays_if_unread(f"what was kept for job {job_id}"):
            job = self._log.load(Job, job_of(job_id))
            if job is not None and (job.open or job.checkpoint_wanted is not None):
                return True
            deployment = self._log.load(Deployment, job_id)
            return deployment is not None and not deployment.ended
        return True

    def _job(self, job_id: str) -> Job:
        job = self._log.load(Job, job_id)
        if job is None:
            raise NotFound(f"no job {job_id} here")
        return job


def _key(job_id: str, number: int) -> str:
    return f"{job_id} {number}"


class FetchCheckpoints(Reactor[Job]):
    """The newest checkpoint that was offered and neither received nor given up, whether the job still runs or not."""

    name = "fetching of checkpoints"
    kind = Job

    def __init__(self, receiver: CheckpointReceiver) -> None:
        self._receiver = receiver

    def due(self, aggregate: Job) -> bool:
        return aggregate.checkpoint_wanted is not None

    def waits_for(self, aggregate: Job) -> str:
        return aggregate.provider

    async def react(self, aggregate: Job, news: News) -> None:
        if (offered := aggregate.checkpoint_wanted) is not None:
            await self._receiver.fetch(aggregate.key, offered, news)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        if (offered := aggregate.checkpoint_wanted) is not None:
            await self._receiver.lose(aggregate.key, offered, f"it could not be fetched here: {said(error)}")


class DropResumes(Reactor[Job]):
    """What was kept for the provider to go on from, once the job is over."""

    name = "tidying of what jobs went on from"
    kind = Job
    recorded = False

    def __init__(self, receiver: CheckpointReceiver) -> None:
        self._receiver = receiver

    def due(self, aggregate: Job) -> bool:
        return not aggregate.open and any(attempt.resume is not None for attempt in aggregate.attempts)

    async def react(self, aggregate: Job, news: News) -> None:
        for attempt in aggregate.attempts:
            self._receiver.forget(attempt.deployment_id)
