"""What the jobs on this machine use, looked at now and then while they run: for who watches, in memory alone."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from dms.application.ports import Executor, Usage
from dms.domain.gpus import GpuReading
from dms.errors import ExecutorUnavailable
from dms.recent import Recent

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
MOST_SAMPLES = 360  # an hour
MOST_JOBS = 100


class GpuUse(Struct, frozen=True, gc=False):
    """Of the whole card, which jobs may share. None: it does not tell."""

    uuid: str
    utilization_percent: int | None
    memory_mb: int


class Sample(Struct, frozen=True, gc=False):
    """time_us: Unix. cpu_cores: on average since the sample before; None for the first."""

    time_us: int
    cpu_cores: float | None
    memory_mb: int
    gpus: tuple[GpuUse, ...] = ()


class UsageWatch:
    def __init__(
        self,
        executor: Executor,
        read_gpus: Callable[[], Awaitable[Sequence[GpuReading]]],
        now: Callable[[], int],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        """now: Unix time in microseconds."""
        self._executor, self._read_gpus, self._now, self._every_seconds = executor, read_gpus, now, every_seconds
        self._samples: Recent[str, deque[Sample]] = Recent(MOST_JOBS)

    def of(self, job_id: str) -> Sequence[Sample]:
        """The newest ones, oldest first; none after a restart."""
        return tuple(self._samples.get(job_id) or ())

    async def watch(self, job_id: str, gpu_uuids: Sequence[str]) -> None:
        """Until cancelled."""
        samples = self._samples[job_id] = self._samples.get(job_id) or deque(maxlen=MOST_SAMPLES)
        before: Usage | None = None
        while True:
            try:
                usage = await self._executor.usage(job_id)
            except ExecutorUnavailable as error:
                log.debug("what job %s uses can't be looked at now: %s", job_id, error)
                usage = None
            if usage is not None:
                gpus = await self._gpus(gpu_uuids)
                samples.append(Sample(self._now(), _cores(before, usage), usage.memory_mb, gpus))
            before = usage
            await asyncio.sleep(self._every_seconds)

    async def _gpus(self, uuids: Sequence[str]) -> tuple[GpuUse, ...]:
        if not uuids:
            return ()
        readings = await self._read_gpus()
        return tuple(GpuUse(r.uuid, r.utilization_percent, r.used_vram_mb) for r in readings if r.uuid in uuids)


def _cores(before: Usage | None, now: Usage) -> float | None:
    if before is None or now.measured_at_seconds <= before.measured_at_seconds:
        return None
    used = max(0.0, now.cpu_seconds - before.cpu_seconds)
    return used / (now.measured_at_seconds - before.measured_at_seconds)
