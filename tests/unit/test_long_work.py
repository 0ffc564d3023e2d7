"""Work that takes minutes keeps nothing waiting that is done in a moment, and ends with whoever waits for it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

from dms import long_work as module
from dms.long_work import long_work, stoppable

MORE_THAN_THERE_ARE_THREADS = 64


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


async def test_what_is_done_in_a_moment_has_threads_of_its_own(gate: threading.Event) -> None:
    long_ones = [asyncio.create_task(long_work(gate.wait)) for _ in range(MORE_THAN_THERE_ARE_THREADS)]
    async with asyncio.timeout(60):
        assert await asyncio.to_thread(int, "7") == 7
    gate.set()
    assert all(await asyncio.gather(*long_ones))


async def test_its_errors_and_context_are_those_of_a_call() -> None:
    variable = contextvars.ContextVar("variable", default="")
    variable.set("of the caller")
    assert await long_work(variable.get) == "of the caller"
    with pytest.raises(ValueError, match="invalid literal"):
        await long_work(int, "x")


async def test_cancelled_work_has_ended_before_its_caller_goes_on() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(stopped: threading.Event) -> None:
        begun.set()
        stopped.wait()
        ended.set()

    task = asyncio.create_task(stoppable(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_work_that_is_cancelled_in_the_queue_never_begins(gate: threading.Event) -> None:
    for _ in range(MORE_THAN_THERE_ARE_THREADS):
        module._begun(gate.wait)
    ran = threading.Event()
    task = asyncio.create_task(stoppable(lambda _: ran.set()))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await task
    gate.set()
    await long_work(int)  # behind all of them
    assert not ran.is_set()
