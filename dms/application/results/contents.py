"""What is in the results of our jobs, and in the newest checkpoints of those that have none yet: for who asked for
them. An archive is opened when somebody looks into it, and what was opened is forgotten a while after the last look, or
when others that are opened need its room."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from weakref import WeakValueDictionary

from msgspec import Struct

from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.files.file_parts import digest_of
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import ArchivedFile
from dms.application.results.result_files import ResultFiles
from dms.domain.job import Job
from dms.errors import NotFound, Unavailable

UNUSED_SECONDS = 3600.0
TIDY_SECONDS = 600.0
OPENED_AT_ONCE = 2
NOTHING_NAMED = "nothing that the job left has one of the names in params.results"
MOST_OPENED = 32  # whose lists of files are kept in memory
MOST_OPENED_BYTES = 8 * 2**30  # of all that are opened; one may be larger, and is the only one then

Open = Callable[[Path, Path], Awaitable[Sequence[ArchivedFile]]]
"""(archive, where its content goes) -> its files, by path. Raises a DmsError."""


class ResultsState(StrEnum):
    AWAITED = "awaited"  # the job is not over
    FETCHING = "fetching"
    HERE = "here"
    NONE = "none"  # the job left nothing
    LOST = "lost"
    EXPIRED = "expired"  # they were here, and were removed


class Standing(Struct, frozen=True, kw_only=True):
    """Where a job's results stand. reason: why there are none. size_bytes, done_bytes: of their archive, and what of
    it is here. left_out: how much the provider left out of it."""

    state: ResultsState
    reason: str = ""
    size_bytes: int = 0
    done_bytes: int = 0
    left_out: int = 0


class Content(Struct, frozen=True, kw_only=True):
    """Of one archive. origin: "results" or "checkpoint". sha256: of the archive. opened: a file with the content of
    all files, each at its offset. number: of the checkpoint, 0 for results."""

    origin: str
    sha256: str
    number: int
    files: Sequence[ArchivedFile]
    opened: Path

    def find(self, path: str) -> ArchivedFile | None:
        return next((file for file in self.files if file.path == path), None)


class Contents:
    def __init__(
        self, log: EventLog, checkpoints: CheckpointFiles, files: ResultFiles, open_archive: Open, loops: Loops
    ) -> None:
        self._log, self._checkpoints, self._files, self._open = log, checkpoints, files, open_archive
        self._loops = loops
        self._opened: dict[str, Content] = {}  # job id -> what was looked into last
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(OPENED_AT_ONCE)
        self._tidying: Loop | None = None

    async def start(self) -> None:
        self._tidying = self._loops.every(TIDY_SECONDS, "tidying of opened archives", self._tidy)

    async def close(self) -> None:
        if self._tidying is not None:
            await self._tidying.close()

    def standing(self, job_id: str) -> Standing:
        """Raises NotFound unless this node asked for the job."""
        job = self._job(job_id)
        if job.results_received is not None:
            if job.results_removed:
                return Standing(state=ResultsState.EXPIRED, reason="they were kept for as long as the setting says")
            size, offered = job.results_received.size_bytes, job.results_offered
            left_out = offered.skipped if offered is not None else 0
            return Standing(state=ResultsState.HERE, size_bytes=size, done_bytes=size, left_out=left_out)
        if job.results_loss:
            return Standing(state=ResultsState.LOST, reason=job.results_loss)
        if (wanted := job.results_wanted) is not None:
            done = min(self._files.incoming_bytes(job_id), wanted.size_bytes)
            return Standing(
                state=ResultsState.FETCHING, size_bytes=wanted.size_bytes, done_bytes=done, left_out=wanted.skipped
            )
        if job.open:
            return Standing(state=ResultsState.AWAITED, reason=f"the job is {job.state.value}")
        return Standing(
            state=ResultsState.NONE, reason=NOTHING_NAMED if _names_results(job) else "the job left no files"
        )

    async def of(self, job_id: str) -> Content | None:
        """The results, or else the newest checkpoint that is here; None when there is neither. Raises NotFound unless
        this node asked for the job, Unavailable when the archive is damaged or gone."""
        async with self._opening.setdefault(job_id, asyncio.Lock()):
            found = self._archive(self._job(job_id))
            if found is None:
                return None
            archive, origin, sha256, number = found
            opened = self._files.opened(job_id, sha256)
            known = self._opened.get(job_id)
            if known is None or (known.sha256, known.origin) != (sha256, origin) or not opened.exists():
                async with self._slots:
                    files = await self._look_into(archive, sha256, opened)
                known = Content(origin=origin, sha256=sha256, number=number, files=files, opened=opened)
                self._opened[job_id] = known
                self._forget_oldest()
                self._files.drop_opened(job_id, but=sha256)
                self._make_room(opened)
            os.utime(opened)
            return known

    async def _look_into(self, archive: Path, sha256: str, into: Path) -> Sequence[ArchivedFile]:
        if await digest_of(archive) != sha256:
            raise Unavailable(f"the archive {archive.name} is gone or damaged: it is not what was received")
        return await self._open(archive, into)

    def _forget_oldest(self) -> None:
        while len(self._opened) > MOST_OPENED:
            oldest = next(iter(self._opened))
            del self._opened[oldest]

    def _make_room(self, newest: Path) -> None:
        """Drops what was looked into longest ago."""
        sizes = self._files.opened_sizes()
        total = sum(sizes.values())
        for job_id, path, _ in sorted(self._files.list_opened(), key=lambda one: one[2]):
            if total > MOST_OPENED_BYTES and path != newest and path in sizes:
                total -= sizes[path]
                self._opened.pop(job_id, None)
                self._files.drop(path)

    def _archive(self, job: Job) -> tuple[Path, str, str, int] | None:
        if (results := job.results_received) is not None and not job.results_removed:
            return self._files.received(job.key), "results", results.sha256, 0
        is_settled = not job.open and not job.results_loss and job.results_offered is None
        if is_settled and _names_results(job):
            return None  # who names what is to come back gets nothing else
        if (checkpoint := job.checkpoint_received) is not None:
            return self._checkpoints.received(job.key), "checkpoint", checkpoint.sha256, checkpoint.number
        return None

    async def _tidy(self) -> None:
        for job_id, path, used in self._files.list_opened():
            if time.time() - used > UNUSED_SECONDS:
                self._opened.pop(job_id, None)
                self._files.drop(path)

    def _job(self, job_id: str) -> Job:
        job = self._log.load(Job, job_id)
        if job is None:
            raise NotFound(f"no job {job_id} that this node asked for; its results are with who did")
        return job


def _names_results(job: Job) -> bool:
    """Whether its request says what is to come back."""
    return job.request is not None and bool(job.request.params.results)
