"""Checkpoints on the compute provider: made of running jobs and of their ends, given to their owners, and
unpacked for jobs that go on from one.

The archive of a job is replaced as a whole and then recorded; a crash between the two only means that the
next one is recorded. The last one is made after the container has ended and before it is removed, and the
job's end is recorded behind it without waiting for anybody to fetch it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.deadlines import Deadlines
from dms.application.deployments.ownership import deployment_of
from dms.application.files.disk_patience import DiskPatience
from dms.application.files.file_exchange import FileExchange, FileRef
from dms.application.files.file_parts import open_regular, opened
from dms.application.loops import Loop, Loops
from dms.application.network.messages import CHECKPOINT, CheckpointNote, CheckpointNoted, decode_request, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import ExecutionSpec, Executor, PackedWorkspace
from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import News, Reactor
from dms.application.unread import stays_if_unread
from dms.disk import share
from dms.domain.checkpoint import ResumeFrom, archive_bound
from dms.domain.deployment import Deployment
from dms.errors import (
    ArchiveRefused,
    Conflict,
    DiskTrouble,
    DmsError,
    ExecutionError,
    ExecutorUnavailable,
    LogUnavailable,
)
from dms.long_work import long_work
from dms.recent import Recent

log = logging.getLogger(__name__)

KIND, RESUME_KIND = "checkpoint", "resume"
TIDY_SECONDS = 3600.0
PAUSES_SECONDS = (1.0, 3.0, 10.0)  # between the tries to archive what a job leaves
MOST_REMEMBERED = 1024  # jobs
BEING_READ_SECONDS = 30.0  # a periodic checkpoint waits for one that was read so short a time ago
FETCH_SECONDS, FETCH_BYTES_A_SECOND = 600.0, 100_000.0  # how long fetching a checkpoint to go on from may take


class Packed(Struct, frozen=True, kw_only=True):
    """What was archived of a workspace, and where it lies."""

    archive: Path
    packed: PackedWorkspace


class CheckpointTimes(Struct, frozen=True, kw_only=True):
    """interval_seconds: between checkpoints of a running job. keep_seconds: how long one that nobody fetches
    is kept. max_bytes: of what a workspace holds."""

    interval_seconds: float = 120.0
    keep_seconds: float = 3 * 86_400.0
    max_bytes: int = 2**30


async def packed_in_the_end(pack: Callable[[], Awaitable[PackedWorkspace | None]], what: str) -> PackedWorkspace | None:
    """Of a job that does not run any more: an engine that is away for a moment is tried again. Raises ArchiveRefused,
    ExecutorUnavailable."""
    for pause in PAUSES_SECONDS:
        try:
            return await pack()
        except ExecutorUnavailable as error:
            log.warning("%s: %s; tried again", what, error)
        await asyncio.sleep(pause)
    return await pack()


class CheckpointKeeper:
    def __init__(
        self,
        log: EventLog,
        executor: Executor,
        files: CheckpointFiles,
        exchange: FileExchange,
        now: Callable[[], int],
        times: CheckpointTimes,
        loops: Loops | None = None,
    ) -> None:
        """now: Unix time in microseconds."""
        self._log, self._executor, self._files, self._exchange = log, executor, files, exchange
        self._now, self._times = now, times
        self._expiries = Deadlines(now, times.keep_seconds)  # by job
        # Both spare work and decide nothing, so a restart may forget them.
        self._states: Recent[str, str] = Recent(MOST_REMEMBERED)  # job id -> of the workspace, as it was archived
        self._read_at: Recent[str, float] = Recent(MOST_REMEMBERED)  # job id -> when its owner last read, monotonic
        self._loops = loops or Loops()
        self._tidying: Loop | None = None
        self._patience = DiskPatience()

    def serve(self, network: PeerNetwork) -> None:
        self._exchange.serve(KIND, self._may_read, self._resolve, self._served)
        network.serve_request(CHECKPOINT, self._on_note)

    def start(self) -> None:
        rest = min(TIDY_SECONDS, self._times.keep_seconds)
        self._tidying = self._loops.every(rest, "tidying of checkpoints", self._tidy)

    async def close(self) -> None:
        if self._tidying is not None:
            await self._tidying.close()

    # --- making ---------------------------------------------------------------------------------
    async def watch(self, job_id: str) -> None:
        """Saves a running job's workspace now and then, until it is cancelled."""

        async def save() -> None:
            if not self._is_being_read(job_id):
                await self._save(job_id, last=False)

        saving = self._loops.every(self._times.interval_seconds, "checkpoints of running jobs", save, at_once=False)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await saving.close()

    def _is_being_read(self, job_id: str) -> bool:
        """The newest; what its owner has whole may be replaced, however short a time ago it was read."""
        deployment = self._log.load(Deployment, job_id)
        if deployment is None or deployment.checkpoint is None or deployment.delivered == deployment.checkpoint.number:
            return False
        return asyncio.get_running_loop().time() - self._read_at.get(job_id, -BEING_READ_SECONDS) < BEING_READ_SECONDS

    async def save_last(self, job_id: str, results: Packed | None = None) -> None:
        """Of a job that was started and does not run any more. Never holds its end up: what can't be saved is
        recorded as such. results: its archived results, which are the same archive where they are all there is."""
        if results is None or self._states.get(job_id) != results.packed.state:
            await self._save(job_id, last=True, results=results)
        self._states.pop(job_id, None)
        self._read_at.pop(job_id, None)

    async def _save(self, job_id: str, *, last: bool, results: Packed | None = None) -> None:
        target = self._files.created(job_id)
        known_state = results.packed.state if results else self._states.get(job_id, "")

        def pack() -> Awaitable[PackedWorkspace | None]:
            return self._executor.pack(job_id, target, self._times.max_bytes, known_state)

        try:
            patient = last and results is not None  # then the engine was there a moment ago
            packed = await (packed_in_the_end(pack, f"last checkpoint of job {job_id}") if patient else pack())
            if packed is None and results is not None:
                await long_work(share, results.archive, target)
                packed = results.packed
        except (ExecutionError, ExecutorUnavailable, OSError) as error:
            reason = str(error)
            log.info("no checkpoint of job %s: %s", job_id, reason, extra={"job_id": job_id})
            if last or isinstance(error, ArchiveRefused):
                await self._record(job_id, lambda deployment: deployment.skip_checkpoint(reason))
            return
        if packed is None:
            return
        saved_at = self._now()
        await self._record(
            job_id,
            lambda deployment: deployment.save_checkpoint(
                target.name, packed.size_bytes, packed.sha256, saved_at, packed.files, packed.skipped
            ),
        )
        self._states[job_id] = packed.state
        self._expiries.begin(job_id)

    async def _record(self, job_id: str, decide: Callable[[Deployment], bool]) -> None:
        deployment = self._log.load(Deployment, job_id)
        if deployment is not None and decide(deployment):
            await self._log.save(deployment)

    # --- giving ---------------------------------------------------------------------------------
    def _may_read(self, peer_id: str, job_id: str) -> bool:
        deployment = self._log.load(Deployment, job_id)
        return deployment is not None and deployment.service_provider == peer_id and deployment.checkpoint_here

    async def _resolve(self, _peer_id: str, job_id: str) -> int | None:
        return await opened(open_regular, self._files.created(job_id))

    def _served(self, _peer_id: str, job_id: str, _size: int) -> None:
        self._read_at[job_id] = asyncio.get_running_loop().time()

    async def _on_note(self, peer_id: str, body: bytes) -> bytes:
        note = decode_request(body, CheckpointNote)
        deployment = deployment_of(self._log, note.job_id, peer_id)
        newest = deployment.checkpoint is not None and deployment.checkpoint.sha256 == note.sha256
        deployment.checkpoint_delivered(note.sha256)
        await self._log.save(deployment)
        return encode(CheckpointNoted(newest=newest))

    # --- going on from one -------------------------------------------------------------------------
    def refusal(self, resume: ResumeFrom | None, *, wanted: bool) -> str:
        """Why a job can't begin with that checkpoint here; empty when it can. wanted: the request asks for
        going on from one."""
        if resume is None:
            return "the request is to go on from a checkpoint, but names none" if wanted else ""
        if resume.size_bytes > archive_bound(self._times.max_bytes):
            return f"the checkpoint has {resume.size_bytes / 2**20:.0f} MiB, more than this provider takes"
        return ""

    async def restore(self, deployment: Deployment, spec: ExecutionSpec) -> None:
        """Fetches the checkpoint from the owner and fills the workspace with it, once. Raises ExecutionError
        (not to be had, refused, does not fit), ExecutorUnavailable, DiskTrouble."""
        resume = deployment.resume
        if resume is None:
            return
        archive = self._files.resume_in(deployment.key)
        if not (deployment.restored and archive.exists()):
            with self._patience.of(deployment.key):
                await self._fetch(deployment, resume, archive)
        await self._executor.fill(spec, archive, self._times.max_bytes)
        if deployment.restored or deployment.ended:
            return
        deployment.workspace_restored()
        await self._log.save(deployment)

    async def _fetch(self, deployment: Deployment, resume: ResumeFrom, into: Path) -> None:
        ref = FileRef(
            kind=RESUME_KIND,
            id=deployment.key,
            name=resume.name,
            size_bytes=resume.size_bytes,
            sha256=resume.sha256,
        )
        limit = FETCH_SECONDS + resume.size_bytes / FETCH_BYTES_A_SECOND
        try:
            await self._exchange.fetch(deployment.service_provider, ref, into, limit_seconds=limit)
        except TimeoutError as error:
            raise ExecutionError(f"the checkpoint {resume.name!r} did not come within {limit:.0f} s") from error
        except (LogUnavailable, DiskTrouble):
            raise
        except Conflict as error:
            raise ExecutorUnavailable(f"the checkpoint {resume.name!r} is not here yet: {error}") from error
        except DmsError as error:
            raise ExecutionError(f"the checkpoint {resume.name!r} can't be fetched: {error}") from error

    def forget(self, job_id: str) -> None:
        """What a job that is over began with."""
        self._patience.forget(job_id)
        self._files.drop(self._files.resume_in(job_id))

    # --- deleting -----------------------------------------------------------------------------------
    async def delete(self, job_id: str, reason: str) -> None:
        """The event first: a file that should be gone is found again by the next tidying."""
        await self._record(job_id, lambda deployment: deployment.delete_checkpoint(reason))
        self._expiries.forget(job_id)
        self._files.drop(self._files.created(job_id))

    async def _tidy(self) -> None:
        """Deletes what nobody fetched for too long, and what a crash left."""
        for job_id, path, changed in self._files.list_created():
            with stays_if_unread(str(path)):
                await self._tidy_one(job_id, path, changed)

    async def _tidy_one(self, job_id: str, path: Path, changed: float) -> None:
        deployment = self._log.load(Deployment, job_id)
        if deployment is None or (deployment.ended and not deployment.checkpoint_here):
            self._files.drop(path)
        elif is_delivered(deployment):
            await self.delete(job_id, "delivered")
        elif deployment.ended and self._expiries.left_seconds(job_id, self._expires_at(changed)) < 0:
            await self.delete(job_id, "expired")

    def _expires_at(self, changed: float) -> int:
        """Unix time in microseconds. changed: when the archive was, in seconds."""
        return int((changed + self._times.keep_seconds) * 1_000_000)


def is_delivered(deployment: Deployment) -> bool:
    """Whether the owner of a job that is over has its last checkpoint, and it is still here."""
    newest = deployment.checkpoint
    delivered = newest is not None and deployment.delivered == newest.number
    return deployment.ended and delivered and deployment.checkpoint_here


class DeleteCheckpoints(Reactor[Deployment]):
    """Of jobs that are over, once their owners have them."""

    name = "deletion of checkpoints"
    kind = Deployment
    topics = (
        Deployment.CheckpointDelivered.TOPIC, Deployment.ContainerExited.TOPIC, Deployment.Failed.TOPIC,
        Deployment.Stopped.TOPIC,
    )  # fmt: skip

    def __init__(self, keeper: CheckpointKeeper) -> None:
        self._keeper = keeper

    def due(self, aggregate: Deployment) -> bool:
        return is_delivered(aggregate)

    async def react(self, aggregate: Deployment, news: News) -> None:
        await self._keeper.delete(aggregate.key, "delivered")

    async def give_up(self, aggregate: Deployment, error: Exception) -> None:
        """It stays until its time is over: see CheckpointKeeper."""
