"""Tasks that are told to end do end, whatever comes at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from dms.application.tasks import JobTasks, cancelled


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancellation_is_not_lost_when_the_wake_comes_just_before(turns: int) -> None:
    waiting = asyncio.Event()

    async def drive(job_id: str) -> None:
        while True:
            waiting.set()
            await tasks.changed(job_id, timeout_seconds=60.0)

    tasks = JobTasks("job", drive)
    tasks.start("j")
    await waiting.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks.wake("j")
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(120):
        await tasks.close()
    assert not tasks.jobs()


async def test_changed_says_whether_there_was_a_wake() -> None:
    answers: list[bool] = []

    async def drive(job_id: str) -> None:
        answers.append(await tasks.changed(job_id, timeout_seconds=0.001))
        tasks.wake(job_id)
        answers.append(await tasks.changed(job_id))

    tasks = JobTasks("job", drive)
    tasks.start("j")
    async with asyncio.timeout(120):
        while tasks.jobs():
            await asyncio.sleep(0)
    assert answers == [False, True]


async def test_cancelled_waits_for_the_end() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancelled(task)
    assert ended.is_set()
