"""What jobs use: worked out between two looks, kept in bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest

from dms.adapters.executors.engine_stats import usage_in
from dms.application.deployments.usage import MOST_SAMPLES, UsageWatch
from dms.application.ports import Executor, Usage
from dms.domain.gpus import GpuReading
from dms.errors import ExecutorUnavailable

MIB = 1024 * 1024
GPU = GpuReading(
    name="A", uuid="GPU-1", vendor="nvidia", total_vram_mb=8000, used_vram_mb=500, free_vram_mb=7500,
    utilization_percent=40,
)  # fmt: skip


class Looks:
    """As the engine answers one look after the other; then the watch is over."""

    def __init__(self, *answers: Usage | Exception | None) -> None:
        self._answers = list(answers)

    async def usage(self, job_id: str) -> Usage | None:
        if not self._answers:
            raise asyncio.CancelledError
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def watched(*answers: Usage | Exception | None, gpus: Sequence[str] = ()) -> UsageWatch:
    async def read_gpus() -> Sequence[GpuReading]:
        return (GPU,)

    watch = UsageWatch(cast("Executor", Looks(*answers)), read_gpus, lambda: 7, every_seconds=0)
    with suppress(asyncio.CancelledError):
        await watch.watch("job", gpus)
    return watch


async def test_cores_are_worked_out_between_two_looks() -> None:
    watch = await watched(Usage(1.0, 10, 100.0), Usage(6.0, 20, 102.0), Usage(6.0, 30, 104.0))
    assert [(sample.cpu_cores, sample.memory_mb) for sample in watch.of("job")] == [(None, 10), (2.5, 20), (0.0, 30)]
    assert watch.of("other") == ()


async def test_an_engine_that_is_away_leaves_a_gap() -> None:
    watch = await watched(Usage(1.0, 10, 100.0), ExecutorUnavailable("away"), None, Usage(9.0, 20, 110.0))
    assert [sample.cpu_cores for sample in watch.of("job")] == [None, None]


async def test_the_jobs_own_gpus_are_told_and_no_others() -> None:
    (sample,) = (await watched(Usage(1.0, 10, 1.0), gpus=["GPU-1", "GPU-2"])).of("job")
    assert [(gpu.uuid, gpu.utilization_percent, gpu.memory_mb) for gpu in sample.gpus] == [("GPU-1", 40, 500)]
    (plain,) = (await watched(Usage(1.0, 10, 1.0))).of("job")
    assert plain.gpus == ()


async def test_only_the_newest_are_kept() -> None:
    watch = await watched(*(Usage(float(n), n, float(n)) for n in range(MOST_SAMPLES + 5)))
    assert [sample.memory_mb for sample in watch.of("job")][:1] == [5]
    assert len(watch.of("job")) == MOST_SAMPLES


@pytest.mark.parametrize(
    ("memory", "mb"),
    [
        ({"usage": 300 * MIB, "stats": {"inactive_file": 100 * MIB}}, 200),
        ({"usage": 300 * MIB, "stats": {"total_inactive_file": 50 * MIB}}, 250),
        ({"usage": 300 * MIB}, 300),
        ({}, None),
    ],
)
def test_the_engines_figures_are_read_under_both_generations_of_cgroups(memory: dict[str, Any], mb: int | None) -> None:
    stats = {"cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}}, "memory_stats": memory}
    assert usage_in(stats, 3.0) == (None if mb is None else Usage(1.5, mb, 3.0))
