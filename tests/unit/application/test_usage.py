"""What jobs use: worked out between two looks, kept in bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from dms.adapters.executors.engine_stats import usage_in
from dms.application.deployments.usage import KEEP_SECONDS, LOOKS_AT_ONCE, MOST_SAMPLES, MOST_WAITING, UsageWatch
from dms.application.loops import Loops, Patience
from dms.application.ports.executor import Executor
from dms.application.ports.machine import Usage
from dms.domain.gpus import GpuReading
from dms.domain.run_time import Instant
from dms.errors import ExecutorUnavailable

MIB = 1024 * 1024
GPU = GpuReading(
    name="A", uuid="GPU-1", vendor="nvidia", total_vram_mb=8000, used_vram_mb=500, free_vram_mb=7500,
    utilization_percent=40,
)  # fmt: skip


class Looks:
    """As the engine answers one look after the other; then the watch is over, for it does not answer any more."""

    def __init__(self, *answers: Usage | Exception | None) -> None:
        self._answers, self.over = list(answers), asyncio.Event()

    async def usage(self, job_id: str) -> Usage | None:
        if not self._answers:
            self.over.set()
            await asyncio.Event().wait()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    """Of the machine, moved by the test. wall_us: as far ahead as it was stepped."""

    def __init__(self) -> None:
        self.seconds, self.stepped_seconds = 0.0, 0.0

    def __call__(self) -> Instant:
        boot_us = int(self.seconds * 1_000_000)
        return Instant("boot", boot_us, boot_us + int(self.stepped_seconds * 1_000_000))


async def one_gpu() -> Sequence[GpuReading]:
    return (GPU,)


def watch_of(
    *answers: Usage | Exception | None,
    clock: Callable[[], Instant] | None = None,
    machine: Sequence[Usage] = (),
    read_gpus: Callable[[], Awaitable[Sequence[GpuReading]]] = one_gpu,
) -> UsageWatch:
    left = list(machine)
    loops = Loops(Patience(first=0.001))
    return UsageWatch(
        cast("Executor", Looks(*answers)), lambda: left.pop(0), read_gpus, clock or Clock(), loops, every_seconds=0
    )


async def watched(*answers: Usage | Exception | None, gpus: Sequence[str] = ()) -> UsageWatch:
    watch = watch_of(*answers)
    await look_at_all(watch, gpus)
    return watch


async def look_at_all(watch: UsageWatch, gpus: Sequence[str] = ()) -> None:
    """Until the engine has answered all."""
    looking = watch.watch("job", gpus)
    async with asyncio.timeout(120):
        await cast("Looks", watch._executor).over.wait()
    await looking.close()


async def test_cores_are_worked_out_between_two_looks() -> None:
    watch = await watched(Usage(1.0, 10, 100.0), Usage(6.0, 20, 102.0), Usage(6.0, 30, 104.0))
    assert [(sample.cpu_cores, sample.memory_mb) for sample in watch.of("job")] == [(None, 10), (2.5, 20), (0.0, 30)]
    assert watch.of("other") == ()


async def test_an_engine_that_is_away_leaves_a_gap() -> None:
    watch = await watched(Usage(1.0, 10, 100.0), ExecutorUnavailable("away"), None, Usage(9.0, 20, 110.0))
    assert [sample.cpu_cores for sample in watch.of("job")] == [None, None]


async def test_a_job_that_could_not_be_looked_at_for_long_is_told_of_again() -> None:
    clock, looks = Clock(), 0

    class Slow(Looks):
        async def usage(self, job_id: str) -> Usage | None:
            nonlocal looks
            await watch._look_at_machine()  # forgets the jobs of which there is nothing
            looks += 1
            clock.seconds += KEEP_SECONDS + 1 if looks == 2 else 0
            await watch._look_at_machine()
            return await super().usage(job_id)

    watch = watch_of(clock=clock, machine=[Usage(1.0, 10, 1.0)] * 6)
    watch._executor = cast("Executor", Slow(Usage(1.0, 10, 1.0), Usage(2.0, 20, 2.0)))
    await look_at_all(watch)
    assert [sample.memory_mb for sample in watch.of("job")] == [20]


async def test_the_jobs_own_gpus_are_told_and_no_others() -> None:
    (sample,) = (await watched(Usage(1.0, 10, 1.0), gpus=["GPU-1", "GPU-2"])).of("job")
    assert [(gpu.uuid, gpu.utilization_percent, gpu.memory_mb) for gpu in sample.gpus] == [("GPU-1", 40, 500)]
    (plain,) = (await watched(Usage(1.0, 10, 1.0))).of("job")
    assert plain.gpus == ()


async def test_only_the_newest_are_kept() -> None:
    watch = await watched(*(Usage(float(n), n, float(n)) for n in range(MOST_SAMPLES + 5)))
    assert [sample.memory_mb for sample in watch.of("job")][:1] == [5]
    assert len(watch.of("job")) == MOST_SAMPLES


async def test_none_is_older_than_an_hour_however_the_wall_clock_is_set() -> None:
    clock = Clock()
    watch = watch_of(Usage(1.0, 10, 1.0), Usage(2.0, 20, 2.0), clock=clock)
    await look_at_all(watch)
    clock.seconds, clock.stepped_seconds = KEEP_SECONDS - 1, 86_400.0
    assert (len(watch.of("job")), watch.jobs()) == (2, ["job"])
    clock.seconds = KEEP_SECONDS + 1
    assert (watch.of("job"), watch.jobs()) == ((), [])


async def test_of_the_machine_all_is_told_whatever_the_driver_does() -> None:
    """A driver that hangs is asked once, and costs a sample no more than a moment."""
    asked: list[asyncio.Event] = []

    async def hangs() -> Sequence[GpuReading]:
        asked.append(asyncio.Event())
        await asked[-1].wait()
        return (GPU,)

    watch = watch_of(machine=[Usage(10.0, 100, 1.0), Usage(12.0, 200, 2.0), Usage(12.0, 200, 3.0)], read_gpus=hangs)
    await watch._look_at_machine()
    await watch._look_at_machine()
    assert len(asked) == 1
    assert [(one.cpu_cores, one.memory_mb, one.gpus) for one in watch.of_machine()] == [(None, 100, ()), (2.0, 200, ())]
    asked[0].set()
    await watch._look_at_machine()
    assert [gpu.uuid for gpu in watch.of_machine()[-1].gpus] == ["GPU-1"]
    await watch.close()


async def test_a_driver_that_fails_costs_the_samples_its_figures_alone(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    async def broken() -> Sequence[GpuReading]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise ZeroDivisionError("a bug")
        return (GPU,)

    looks = [Usage(float(n), n, float(n)) for n in range(3)]
    watch = watch_of(*looks, machine=looks, read_gpus=broken)
    for _ in range(3):
        await watch._look_at_machine()
    assert [len(one.gpus) for one in watch.of_machine()] == [0, 0, 1]
    asked = 0
    await look_at_all(watch, ["GPU-1"])
    assert [(one.memory_mb, len(one.gpus)) for one in watch.of("job")] == [(0, 0), (1, 0), (2, 1)]
    assert [record.getMessage() for record in caplog.records].count("GPUs can't be read for samples of their use") == 2


async def test_an_error_that_nobody_thought_of_ends_no_watch() -> None:
    watch = await watched(Usage(1.0, 10, 1.0), ZeroDivisionError("a bug"), Usage(3.0, 30, 3.0))
    assert [sample.memory_mb for sample in watch.of("job")] == [10, 30]


async def test_an_engine_that_hangs_is_asked_little_and_holds_up_no_look_at_the_machine() -> None:
    class Hangs:
        asked = 0

        async def usage(self, job_id: str) -> Usage | None:
            self.asked += 1
            await asyncio.Event().wait()
            return None

    engine = Hangs()
    watch = UsageWatch(cast("Executor", engine), lambda: Usage(1.0, 100, 1.0), one_gpu, Clock(), Loops(), 0)
    looking = [watch.watch(f"job-{number}", ()) for number in range(LOOKS_AT_ONCE + 5)]
    await asyncio.sleep(0)
    await watch._look_at_machine()
    assert (engine.asked, len(watch.of_machine()), watch.jobs()) == (LOOKS_AT_ONCE, 1, [])
    for look in looking:
        await look.close()


async def test_who_follows_gets_each_new_sample_and_holds_up_nobody() -> None:
    most = MOST_WAITING + 10
    watch = watch_of(*(Usage(float(n), n, float(n)) for n in range(most)))
    following = watch.follow()
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    await look_at_all(watch)
    assert [used.sample.memory_mb for used in await first] == [0]
    taken = await anext(following)
    assert [used.sample.memory_mb for used in taken] == list(range(most - MOST_WAITING, most)), "the oldest are missed"
    assert {used.job_id for used in taken} == {"job"}
    await following.aclose()
    assert not watch._readers


def stats_of(cpu: dict[str, Any], memory: dict[str, Any]) -> dict[str, Any]:
    return {"cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000} | cpu}, "memory_stats": memory}


# As Docker 20.10 answers on a machine with cgroup v1: of the group itself, and with the groups below.
CGROUP_V1 = stats_of(
    {"percpu_usage": [693_944_000, 806_056_000], "usage_in_kernelmode": 0, "usage_in_usermode": 1_490_000_000},
    {
        "usage": 300 * MIB,
        "max_usage": 310 * MIB,
        "stats": {"cache": 0, "inactive_file": 0, "total_cache": 60 * MIB, "total_inactive_file": 50 * MIB},
        "limit": 512 * MIB,
    },
)
# On one with cgroup v2: memory.stat has no totals, and counts the groups below.
CGROUP_V2 = stats_of(
    {"usage_in_kernelmode": 200_000_000, "usage_in_usermode": 1_300_000_000},
    {
        "usage": 300 * MIB,
        "stats": {"anon": 190 * MIB, "file": 110 * MIB, "active_file": 10 * MIB, "inactive_file": 100 * MIB},
        "limit": 512 * MIB,
    },
)


@pytest.mark.parametrize(
    ("stats", "mb"),
    [
        (CGROUP_V1, 250),
        (CGROUP_V2, 200),
        (stats_of({}, {"usage": 300 * MIB}), 300),
        (stats_of({}, {"usage": 3 * MIB, "stats": {"inactive_file": 4 * MIB}}), 0),
        (stats_of({}, {}), None),
    ],
    ids=["cgroup v1", "cgroup v2", "no files", "read at two moments", "over"],
)
def test_the_engines_figures_are_read_under_both_generations_of_cgroups(stats: dict[str, Any], mb: int | None) -> None:
    assert usage_in(stats, 3.0) == (None if mb is None else Usage(1.5, mb, 3.0))
