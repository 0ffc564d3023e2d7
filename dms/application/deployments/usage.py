"""What this machine and the jobs on it use, looked at now and then: for who watches, in memory alone."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from msgspec import Struct

from dms.application.loops import Loop, Loops
from dms.application.ports.executor import Executor
from dms.application.ports.machine import Usage
from dms.application.tasks import cancelled
from dms.domain.gpus import GpuReading
from dms.domain.run_time import Instant
from dms.errors import DmsError
from dms.recent import Recent

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
KEEP_SECONDS = 3600
MOST_SAMPLES = 360  # of one job, and of the machine
MOST_JOBS = 100
LOOKS_AT_ONCE = 8  # an engine may take a second for each, and has other work
GPU_SECONDS = 1.0  # that a sample waits for the driver: one that hangs costs it the GPUs' figures
MOST_WAITING = 500  # samples that one reader has not taken yet; then it misses the oldest


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


class Used(Struct, frozen=True, gc=False):
    """A new sample. job_id: empty for the whole machine's."""

    job_id: str
    sample: Sample


class Ring:
    """The newest samples of one job, or of the machine: bounded in number, and in age by the time since the boot."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, Sample]] = deque(maxlen=MOST_SAMPLES)

    def add(self, now: Instant, sample: Sample) -> None:
        self._samples.append((now.boot_us, sample))

    def newest(self, now: Instant) -> Sequence[Sample]:
        """Oldest first."""
        oldest_us = now.boot_us - KEEP_SECONDS * 1_000_000
        while self._samples and self._samples[0][0] < oldest_us:
            self._samples.popleft()
        return tuple(sample for _, sample in self._samples)


class UsageWatch:
    """Each job is looked at by itself, and the machine too: an engine that is slow, or away, holds up neither the
    machine's samples nor its own work."""

    def __init__(
        self,
        executor: Executor,
        read_machine: Callable[[], Usage],
        read_gpus: Callable[[], Awaitable[Sequence[GpuReading]]],
        clock: Callable[[], Instant],
        loops: Loops,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        """clock: of this machine."""
        self._executor, self._read_machine, self._clock, self._loops = executor, read_machine, clock, loops
        self._gpus, self.every_seconds = _Gpus(read_gpus, every_seconds / 2), every_seconds
        self._machine = Ring()
        self._machine_before: Usage | None = None
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._jobs: Recent[str, Ring] = Recent(MOST_JOBS)
        self._readers: set[_Reader] = set()
        self._looking: Loop | None = None

    def start(self) -> None:
        self._looking = self._loops.every(self.every_seconds, "usage of the machine", self._look_at_machine)

    async def close(self) -> None:
        if self._looking is not None:
            await self._looking.close()
        await self._gpus.close()

    # --- for who watches ---------------------------------------------------------------------------
    def of(self, job_id: str) -> Sequence[Sample]:
        """Of the last hour, oldest first; none after a restart."""
        ring = self._jobs.get(job_id)
        return () if ring is None else ring.newest(self._clock())

    def of_machine(self) -> Sequence[Sample]:
        """The same of all that runs on it, ours or not."""
        return self._machine.newest(self._clock())

    def jobs(self) -> Sequence[str]:
        """Those of which there are samples, in the order of their ids."""
        now = self._clock()
        return sorted(job_id for job_id, ring in self._jobs.items() if ring.newest(now))

    async def follow(self) -> AsyncGenerator[Sequence[Used], None]:
        """Each new sample, for ever. Who is slow misses some."""
        reader = _Reader()
        self._readers.add(reader)
        try:
            while True:
                yield await reader.take()
        finally:
            self._readers.discard(reader)

    # --- the looks -----------------------------------------------------------------------------------
    def watch(self, job_id: str, gpu_uuids: Sequence[str]) -> Loop:
        """Looks at a job until it is closed."""
        ring = self._jobs.get(job_id) or Ring()
        before: Usage | None = None

        async def look() -> None:
            nonlocal before
            usage = await self._usage_of(job_id)
            if usage is not None:
                readings = await self._gpus.read() if gpu_uuids else ()
                self._jobs[job_id] = ring  # it may have been forgotten meanwhile
                self._add(job_id, ring, before, usage, [r for r in readings if r.uuid in gpu_uuids])
            before = usage

        return self._loops.every(self.every_seconds, "usage of running jobs", look)

    async def _usage_of(self, job_id: str) -> Usage | None:
        try:
            async with self._looks:
                return await self._executor.usage(job_id)
        except DmsError as error:
            log.debug("what job %s uses can't be looked at now: %s", job_id, error)
            return None

    async def _look_at_machine(self) -> None:
        usage = self._read_machine()
        self._add("", self._machine, self._machine_before, usage, await self._gpus.read())
        self._machine_before = usage
        self._forget_old()

    def _add(self, job_id: str, ring: Ring, before: Usage | None, usage: Usage, readings: Sequence[GpuReading]) -> None:
        now = self._clock()
        gpus = tuple(GpuUse(r.uuid, r.utilization_percent, r.used_vram_mb) for r in readings)
        sample = Sample(now.wall_us, _cores(before, usage), usage.memory_mb, gpus)
        ring.add(now, sample)
        for reader in self._readers:
            reader.put(Used(job_id, sample))

    def _forget_old(self) -> None:
        """Of jobs of which nothing was seen for so long."""
        now = self._clock()
        for job_id in [job_id for job_id, ring in self._jobs.items() if not ring.newest(now)]:
            del self._jobs[job_id]


class _Gpus:
    """What the driver tells, for all samples of about the same time. It is asked once at a time, however long that
    takes, and waited for only a little. What goes wrong with it costs the samples no more than its figures."""

    def __init__(self, ask: Callable[[], Awaitable[Sequence[GpuReading]]], fresh_seconds: float) -> None:
        self._ask, self._fresh_seconds = ask, fresh_seconds
        self._asking: asyncio.Task[Sequence[GpuReading]] | None = None
        self._asked_at = 0.0
        self._is_broken = False

    async def read(self) -> Sequence[GpuReading]:
        """None when it does not answer, or not in time."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_at >= self._fresh_seconds):
            self._asking, self._asked_at = asyncio.create_task(self._readings(), name="usage of GPUs"), now
        done, _ = await asyncio.wait({self._asking}, timeout=GPU_SECONDS)
        return next(iter(done)).result() if done else ()

    async def _readings(self) -> Sequence[GpuReading]:
        try:
            readings = await self._ask()
        except Exception:  # the outermost of its task
            if not self._is_broken:  # said once, not with each sample
                log.exception("GPUs can't be read for samples of their use", extra={"action": "gpu_use_failed"})
            self._is_broken = True
            return ()
        self._is_broken = False
        return readings

    async def close(self) -> None:
        if self._asking is not None:
            await cancelled(self._asking)


class _Reader:
    def __init__(self) -> None:
        self._waiting: deque[Used] = deque(maxlen=MOST_WAITING)
        self._new = asyncio.Event()

    def put(self, used: Used) -> None:
        self._waiting.append(used)
        self._new.set()

    async def take(self) -> Sequence[Used]:
        await self._new.wait()
        taken = tuple(self._waiting)
        self._waiting.clear()
        self._new.clear()
        return taken


def _cores(before: Usage | None, now: Usage) -> float | None:
    if before is None or now.measured_at_seconds <= before.measured_at_seconds:
        return None
    used = max(0.0, now.cpu_seconds - before.cpu_seconds)
    return used / (now.measured_at_seconds - before.measured_at_seconds)
