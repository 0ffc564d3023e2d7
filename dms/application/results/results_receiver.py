"""Results on the service provider: fetched from the provider, checked, kept for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from dms.application.cause import caused_by
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.deadlines import Deadlines
from dms.application.files.file_exchange import FileExchange, FileRef
from dms.application.files.file_parts import digest_of
from dms.application.files.receipts import Receipt
from dms.application.loops import Loop, Loops, said
from dms.application.network.messages import RESULTS, ResultsNote, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import News, Reactor
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_keeper import KIND
from dms.application.unread import stays_if_unread
from dms.disk import publish, share
from dms.domain.attempt import Attempt
from dms.domain.checkpoint import archive_bound
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.errors import ArchiveRefused, Conflict, DiskTrouble, Forbidden, InvalidInput, NotFound, PeerMisbehaved
from dms.long_work import long_work

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
RECEIPT_SECONDS = 600.0  # how long a provider that is away is told that they are here
TIDY_SECONDS = 3600.0
WRONG_CONTENTS = 3  # as often we may be sent something else than was announced


class ReceiverLimits(Struct, frozen=True, kw_only=True):
    """max_bytes: of content. fetch_seconds: how long results are tried to be fetched. keep_seconds: how long they stay
    here."""

    max_bytes: int = 2**32
    fetch_seconds: float = 3 * 86_400.0
    keep_seconds: float = 30 * 86_400.0


class ResultsReceiver:
    def __init__(
        self,
        log: EventLog,
        network: PeerNetwork,
        files: ResultFiles,
        checkpoints: CheckpointFiles,
        exchange: FileExchange,
        check: Callable[[Path, int], Awaitable[None]],
        now: Callable[[], int],
        limits: ReceiverLimits,
        loops: Loops | None = None,
    ) -> None:
        """check: (archive, bytes of content at most) raises ArchiveRefused. now: Unix time in microseconds."""
        self._log, self._network, self._files, self._checkpoints = log, network, files, checkpoints
        self._exchange, self._check, self._now, self._limits = exchange, check, now, limits
        self._fetching = Deadlines(now, limits.fetch_seconds)  # by deployment
        self._keeping = Deadlines(now, limits.keep_seconds)  # by job
        self._loops = loops or Loops()
        self._tidying: Loop | None = None

    def start(self) -> None:
        rest = min(TIDY_SECONDS, self._limits.keep_seconds)
        self._tidying = self._loops.every(rest, "tidying of received results", self.tidy)

    async def close(self) -> None:
        if self._tidying is not None:
            await self._tidying.close()

    @property
    def most_bytes(self) -> int:
        """Of content, of one job."""
        return self._limits.max_bytes

    def offer(self, job: Job, saved: Deployment.ResultsSaved) -> None:
        """Decides only; the caller saves the job. Raises PeerMisbehaved."""
        until = self._fetching.begin(job.attempt.deployment_id)
        job.offer_results(saved, until, archive_bound(self._limits.max_bytes))

    # --- fetching -------------------------------------------------------------------------------
    async def fetch(self, job_id: str, offered: Job.ResultsOffered, news: News) -> None:
        """Until they are here or can't be had."""
        clock, attempt = asyncio.get_running_loop().time, self._job(job_id).attempt
        deadline, wrong = clock() + self._fetching.left_seconds(attempt.deployment_id, offered.fetch_until), 0
        while self._is_wanted(job_id, offered):
            if clock() >= deadline:
                await self.lose(job_id, offered, "they could not be fetched in time")
                return
            try:  # what the provider answers; not what our log does
                async with asyncio.timeout_at(deadline):
                    found = await news.during(
                        self._bring(job_id, attempt, offered),
                        lambda: self._is_wanted(job_id, offered),
                        f"results of {job_id}",
                    )
            except TimeoutError:
                continue
            except NotFound as error:
                await self.lose(job_id, offered, f"the provider has them no more: {error}")
            except PeerMisbehaved as error:
                wrong += 1
                if wrong >= WRONG_CONTENTS:
                    await self.lose(job_id, offered, str(error))
            except (ArchiveRefused, Conflict, Forbidden, InvalidInput) as error:
                await self.lose(job_id, offered, str(error))
            else:
                if found is not None:
                    await self._keep(job_id, offered, found, self._receipt(attempt, offered), news)
                return
            await news.changed(RETRY_SECONDS)

    def _is_wanted(self, job_id: str, offered: Job.ResultsOffered) -> bool:
        """Whether they are neither here nor lost, and no other attempt has begun."""
        return self._job(job_id).results_wanted == offered

    async def _bring(self, job_id: str, attempt: Attempt, offered: Job.ResultsOffered) -> Path:
        """Where they are, whole and checked."""
        incoming, target = self._files.incoming(job_id), self._files.received(job_id)
        if await digest_of(target, offered.size_bytes) == offered.sha256:  # of a try that a crash ended
            return target
        await self._fetch(job_id, attempt, offered, incoming)
        return incoming

    async def _keep(self, job_id: str, offered: Job.ResultsOffered, found: Path, receipt: Receipt, news: News) -> None:
        target = self._files.received(job_id)
        if not self._is_wanted(job_id, offered):
            return
        if found != target:
            await asyncio.to_thread(publish, found, target)
        await receipt.give()
        job = self._job(job_id)
        if job.results_are_here(offered, target.name, self._now()):
            with caused_by(new_id()):
                await self._log.save(job)
            self._keeping.begin(job_id)
            await receipt.give_again(news, RECEIPT_SECONDS, lambda: self._job(job_id).results_wanted is None)

    async def _fetch(self, job_id: str, attempt: Attempt, offered: Job.ResultsOffered, incoming: Path) -> None:
        if not await self._shared(job_id, offered, incoming):
            ref = FileRef(
                kind=KIND,
                id=attempt.deployment_id,
                name=offered.name,
                size_bytes=offered.size_bytes,
                sha256=offered.sha256,
            )
            await self._exchange.fetch(attempt.provider, ref, incoming)
        try:
            await self._check(incoming, self._limits.max_bytes)
        except ArchiveRefused:
            self._files.drop(incoming)
            raise

    def _receipt(self, attempt: Attempt, offered: Job.ResultsOffered) -> Receipt:
        note = ResultsNote(job_id=attempt.deployment_id, sha256=offered.sha256)
        return Receipt(self._network, attempt.provider, RESULTS, encode(note))

    async def _shared(self, job_id: str, offered: Job.ResultsOffered, incoming: Path) -> bool:
        """Whether they are the same archive as the job's checkpoint, which is here already, and now have both names."""
        checkpoint = self._checkpoints.received(job_id)
        received = self._job(job_id).checkpoint_received
        if received is None or received.sha256 != offered.sha256:
            return False
        try:
            if await digest_of(checkpoint, offered.size_bytes) != offered.sha256:
                return False
            await long_work(share, checkpoint, incoming)
        except (OSError, DiskTrouble) as error:
            log.warning("the results of job %s are fetched, its checkpoint can't be used for them: %s", job_id, error)
            return False
        return True

    async def lose(self, job_id: str, offered: Job.ResultsOffered, reason: str) -> None:
        job = self._job(job_id)
        if job.lose_results(offered, reason):
            log.warning("the results of job %s are lost: %s", job_id, reason)
            with caused_by(new_id()):
                await self._log.save(job)
        self._files.drop(self._files.incoming(job_id))

    # --- keeping --------------------------------------------------------------------------------
    async def tidy(self) -> None:
        """Removes what was kept for long enough, and what a crash left."""
        for job_id, path, _ in self._files.list_received():
            with stays_if_unread(str(path)):
                await self._tidy_received(job_id, path)
        for job_id, path, _ in self._files.list_incoming():
            with stays_if_unread(str(path)):
                self._drop_unless_wanted(self._log.load(Job, job_id), path)

    async def _tidy_received(self, job_id: str, path: Path) -> None:
        job = self._log.load(Job, job_id)
        received = None if job is None else job.results_received
        if job is None or received is None or job.results_removed:
            self._drop_unless_wanted(job, path)
        elif self._is_expired(job_id, received.received_at) and job.remove_results("expired"):
            await self._log.save(job)  # the event first; those of a job that goes on stay
            self._keeping.forget(job_id)
            self._files.drop_of(job_id)

    def _drop_unless_wanted(self, job: Job | None, path: Path) -> None:
        if job is None or job.results_wanted is None:
            self._files.drop(path)

    def _is_expired(self, job_id: str, received_at: int) -> bool:
        """received_at: Unix time in microseconds."""
        return self._keeping.left_seconds(job_id, received_at + int(self._limits.keep_seconds * 1_000_000)) < 0

    def _job(self, job_id: str) -> Job:
        job = self._log.load(Job, job_id)
        if job is None:
            raise NotFound(f"no job {job_id} here")
        return job


class FetchResults(Reactor[Job]):
    """Once they were offered, whether the job is over or not; behind its last checkpoint where that is the same."""

    name = "fetching of results"
    kind = Job

    def __init__(self, receiver: ResultsReceiver) -> None:
        self._receiver = receiver

    def due(self, aggregate: Job) -> bool:
        wanted, checkpoint = aggregate.results_wanted, aggregate.checkpoint_wanted
        if wanted is None or (aggregate.open and not aggregate.log_is_sealed):
            return False  # its last checkpoint is told between the two
        return checkpoint is None or checkpoint.sha256 != wanted.sha256

    async def react(self, aggregate: Job, news: News) -> None:
        if (offered := aggregate.results_wanted) is not None:
            await self._receiver.fetch(aggregate.key, offered, news)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        if (offered := aggregate.results_wanted) is not None:
            await self._receiver.lose(aggregate.key, offered, f"they could not be fetched here: {said(error)}")
