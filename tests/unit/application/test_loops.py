"""What happens to a long-lived task that dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from dms.application.loops import Loop, Loops, Patience
from dms.application.tasks import background
from dms.errors import Conflict, LogUnavailable
from tests.fixtures.waiting import wait_for

QUICK = Patience(first=0.001, longest=0.002)


@pytest.fixture
async def loops() -> AsyncIterator[Loops]:
    made = Loops(QUICK)
    yield made
    for loop in made:
        await loop.close()


def failing(
    times: int, error: Callable[[], BaseException] = lambda: ValueError("a bug")
) -> Callable[[], Awaitable[None]]:
    """A body that dies so often and then goes on."""
    left = times

    async def body() -> None:
        nonlocal left
        if left:
            left -= 1
            raise error()
        await asyncio.get_running_loop().create_future()

    return body


async def test_a_loop_that_died_once_is_begun_again(loops: Loops, caplog: pytest.LogCaptureFixture) -> None:
    loop = loops.start("reading", failing(1))
    await wait_for(lambda: loops.deaths["reading"] == 1 and not loop.resting)
    assert loop.trouble is None
    assert loops.trouble is None
    [told] = [r for r in caplog.records if r.__dict__.get("action") == "loop_died"]
    assert told.getMessage() == "reading died and is begun again: ValueError: a bug"
    assert told.exc_info is not None


async def test_what_dies_again_and_again_is_named_until_it_lasts(
    loops: Loops, caplog: pytest.LogCaptureFixture
) -> None:
    loop = loops.start("reading", failing(7), needed=True, patience=Patience(0.001, 0.002, 5, steady_seconds=3))
    await wait_for(lambda: loops.deaths["reading"] == 7 and not loop.resting)
    assert loops.trouble == loops.fault == "reading: ValueError: a bug"
    assert [r for r in caplog.records if r.__dict__.get("action") == "loop_failed"]
    await wait_for(lambda: loops.trouble is None)  # it has lived for long enough


async def test_a_part_that_is_not_needed_is_told_and_keeps_nobody_from_serving(loops: Loops) -> None:
    loops.start("figures", failing(10**6))
    await wait_for(lambda: loops.deaths["figures"] >= 5)
    assert loops.in_trouble == {"figures: ValueError: a bug": False}
    assert loops.trouble is None
    assert loops.fault is None


async def test_what_waits_for_something_away_is_no_fault_of_the_process(
    loops: Loops, caplog: pytest.LogCaptureFixture
) -> None:
    loops.start("writing", failing(10**6, lambda: LogUnavailable("the disk is full")), needed=True)
    await wait_for(lambda: loops.deaths["writing"] >= 6)
    assert loops.trouble == "writing: the disk is full"
    assert loops.fault is None
    assert all(r.exc_info is None for r in caplog.records)


@pytest.mark.parametrize("ending", ["returns", "is cancelled from within"])
async def test_an_end_without_an_error_is_a_death_too(loops: Loops, ending: str) -> None:
    lives = 0

    async def body() -> None:
        nonlocal lives
        lives += 1
        if ending != "returns":
            inner = asyncio.get_running_loop().create_future()
            inner.cancel()
            await inner

    loops.start("short", body)
    await wait_for(lambda: lives > 2)


async def test_closing_ends_it_wherever_it_is(loops: Loops) -> None:
    dead = loops.start("dead", failing(10**6), patience=Patience(first=3600, longest=3600))
    live = loops.start("live", failing(0))
    await wait_for(lambda: dead.resting)
    await dead.close()
    await live.close()
    assert list(loops) == []
    assert loops.deaths["live"] == 0


async def test_a_library_that_swallows_a_cancellation_only_delays_the_end(
    loops: Loops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.application.loops.CANCEL_AGAIN_SECONDS", 0.001)
    swallowed = 0

    async def body() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                swallowed += 1

    loop = loops.start("stubborn", body)
    await wait_for(lambda: loop._began)
    await loop.close()
    assert swallowed == 3
    assert loops.deaths["stubborn"] == 0


async def test_a_cancelled_program_ends_its_loops(loops: Loops) -> None:
    loop = loops.start("reading", failing(10**6), patience=Patience(first=3600, longest=3600))
    await wait_for(lambda: loop.resting)
    loop._task.cancel()
    await wait_for(loop._task.done)
    assert loop._task.cancelled()


async def test_what_depends_on_it_is_told_before_the_pause(loops: Loops) -> None:
    told: list[str] = []

    def tell(error: Exception) -> None:
        told.append(str(error))
        raise RuntimeError("the listener is broken too")

    loop = loops.start("reading", failing(3), on_death=tell)
    await wait_for(lambda: len(told) == 3 and not loop.resting)
    assert told == ["a bug"] * 3


async def test_steps_that_rest_longer_than_any_life_still_count_as_failures(loops: Loops) -> None:
    """A loop whose every step fails is not taken for steady because it rests before each."""
    lives = 0

    async def step() -> None:
        nonlocal lives
        lives += 1
        if lives != 3:
            raise Conflict("not now")

    loop: Loop = loops.every(0.001, "steps", step, at_once=False)
    await wait_for(lambda: lives >= 2)
    await wait_for(lambda: loops.deaths["steps"] >= 8)
    assert loop.trouble == "steps: not now"


async def test_a_task_that_nobody_waits_for_tells_why_it_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def work(error: Exception) -> None:
        raise error

    caplog.set_level(logging.INFO)
    await asyncio.wait({background(work(ValueError("a bug")), "telling of job 1")})
    await asyncio.wait({background(work(Conflict("it is over")), "telling of job 2")})
    assert [r.getMessage() for r in caplog.records] == [
        "telling of job 1: unexpected error",
        "telling of job 2: it is over",
    ]
