"""Tasks that are told to end do end, whatever comes at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from dms.application.reactors import News
from dms.application.tasks import cancelled


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancellation_is_not_lost_when_news_come_just_before(turns: int) -> None:
    waiting, news = asyncio.Event(), News()

    async def work() -> None:
        while True:
            waiting.set()
            await news.changed(timeout_seconds=60.0)

    task = asyncio.create_task(work())
    await waiting.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    news.tell(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(120):
        await cancelled(task)
    assert task.cancelled()


async def test_changed_says_whether_there_were_news() -> None:
    news = News()
    assert not await news.changed(timeout_seconds=0.001)
    news.tell(None)
    assert await news.changed()


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
