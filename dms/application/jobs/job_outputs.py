"""The output of a job as its readers see it: one count of lines, in which that of each attempt follows on that of the
one before. Each attempt's is stored by itself, byte for byte as its provider has it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from dms.application.growing_lines import GrowingLine
from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import LogLine, OutputGap, OutputStore, StoredOutput
from dms.application.tasks import cancelled
from dms.domain.deployment import Deployment
from dms.domain.job import Job

MOST_GAPS = 200


class Part(Struct, frozen=True):
    """The output of one attempt: under which id it is stored, and how many lines stand before it and until its end;
    None: it may go on."""

    output: str
    before: int = 0
    until: int | None = None


class JobOutputs:
    """Reads only. Job ids: of either role; a deployment has one part. store: what it reads from."""

    def __init__(self, log: EventLog, store: OutputStore) -> None:
        self._log, self.store = log, store

    async def read(self, job_id: str, after: int, limit: int) -> Sequence[LogLine]:
        """See OutputStore.read: at most `limit`, from one attempt at a time."""
        for part in self._parts(job_id):
            if part.until is not None and after >= part.until:
                continue
            most = limit if part.until is None else min(limit, part.until - after)
            lines = await self.store.read(part.output, max(0, after - part.before), most)
            if lines:
                return lines if not part.before else [replace(line, seq=line.seq + part.before) for line in lines]
        return ()

    async def last(self, job_id: str) -> int:
        part = self._parts(job_id)[-1]
        return part.before + await self.store.last(part.output)

    def is_known(self, job_id: str) -> bool:
        """Whether this node asked for such a job, or was asked for it."""
        return self._log.load(Job, job_id) is not None or self._log.load(Deployment, job_id) is not None

    async def about(self, job_id: str) -> StoredOutput:
        """What there is of all its attempts. Of more gaps than MOST_GAPS those first."""
        parts = [(part, await self.store.about(part.output)) for part in self._parts(job_id)]
        gaps = [
            OutputGap(gap.first + part.before, gap.last + part.before, gap.reason)
            for part, found in parts
            for gap in found.gaps
        ]
        newest, its = parts[-1]
        return StoredOutput(
            lines=newest.before + its.lines,
            size_bytes=sum(found.size_bytes for _, found in parts),
            truncated=any(found.truncated for _, found in parts),
            damage=next((found.damage for _, found in parts if found.damage), ""),
            gaps=tuple(gaps[:MOST_GAPS]),
        )

    async def damage(self, job_id: str) -> str:
        """See OutputStore.damage; of the first attempt's that has one."""
        for part in self._parts(job_id):
            if found := await self.store.damage(part.output):
                return found
        return ""

    async def wait(self, job_id: str, after: int) -> None:
        """See OutputStore.wait. It tells of no attempt that begins meanwhile: that is an event of the job's."""
        part = self._parts(job_id)[-1]
        if after >= part.before:
            await self.store.wait(part.output, after - part.before)

    def is_complete(self, job_id: str) -> bool:
        """Whether nothing follows. Ask before reading: all lines are stored before the end is recorded."""
        job, deployment = self._log.load(Job, job_id), self._log.load(Deployment, job_id)
        return not job.open if job is not None else deployment is None or deployment.ended

    def growing(self, job_id: str) -> tuple[GrowingLine, ...]:
        """What is shown of lines that have no end yet, of the newest attempt."""
        return self.store.growing.of(self._parts(job_id)[-1].output)

    async def wait_growing(self, job_id: str, known: tuple[GrowingLine, ...]) -> None:
        """Returns once they are others than those. It tells of no attempt that begins meanwhile, either."""
        await self.store.growing.wait(self._parts(job_id)[-1].output, known)

    async def changed(self, job_id: str, after: int, growing: tuple[GrowingLine, ...], stirred: asyncio.Event) -> None:
        """Returns once there may be lines behind line `after`, others grow than those, or the event is set; it is
        cleared. Raises LogUnavailable."""
        looks = [
            asyncio.ensure_future(look)
            for look in (self.wait(job_id, after), self.wait_growing(job_id, growing), stirred.wait())
        ]
        try:
            await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
            for look in looks:
                if look.done():
                    look.result()
        finally:
            for look in looks:
                await cancelled(look)
        stirred.clear()

    def _parts(self, job_id: str) -> list[Part]:
        job = self._log.load(Job, job_id)
        if job is None or len(job.attempts) == 1:
            return [Part(job_id)]
        last = job.attempt
        return [
            *(Part(a.deployment_id, a.lines_before, b.lines_before) for a, b in pairwise(job.attempts)),
            Part(last.deployment_id, last.lines_before),
        ]
