"""The simulated loop: time passes only when nothing is left to do, turns follow the seed, lives end without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from random import Random
from typing import Any

import pytest

from tests.simulation.loop import LIFE, Deadlock, Life, SimulatedLoop


def run(loop: SimulatedLoop, work: Coroutine[Any, Any, None]) -> None:
    try:
        loop.run_until_complete(work)
    finally:
        loop.end()


def turns(seed: int) -> list[int]:
    found: list[int] = []

    async def turn(number: int) -> None:
        await asyncio.sleep(0)
        found.append(number)

    async def work() -> None:
        await asyncio.gather(*(turn(number) for number in range(8)))

    run(SimulatedLoop(Random(seed)), work())
    return found


def test_hours_pass_at_once_and_in_order() -> None:
    told: list[float] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(7200, lambda: told.append(loop.time()))
        loop.call_later(3600, lambda: told.append(loop.time()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(9000):
                await asyncio.Event().wait()
        told.append(loop.time())

    run(SimulatedLoop(Random(0)), work())
    assert told == [3600, 7200, 9000]


def test_which_turn_comes_next_follows_from_the_seed() -> None:
    assert turns(1) == turns(1)
    assert len({tuple(turns(seed)) for seed in range(5)}) > 1


def test_nothing_left_to_do_before_the_end_is_a_deadlock() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(SimulatedLoop(Random(0)), work())


def test_of_a_life_that_is_over_nothing_runs_any_more() -> None:
    done: list[str] = []
    life = Life("node")

    async def live() -> None:
        try:
            await asyncio.sleep(10)
            done.append("slept")
        finally:
            done.append("ended")

    async def work() -> None:
        context = copy_context()
        context.run(LIFE.set, life)
        living = asyncio.get_running_loop().create_task(live(), context=context)
        await asyncio.sleep(5)
        life.alive = False
        await asyncio.sleep(10)
        assert not living.done()
        assert done == []

    run(SimulatedLoop(Random(0)), work())


def test_what_a_thread_did_is_told_later_and_to_nobody_who_was_killed_meanwhile() -> None:
    told: list[tuple[str, float]] = []
    loop = SimulatedLoop(Random(0))
    loop.thread_seconds = lambda: 3.0
    life = Life("node")

    async def ask(name: str) -> None:
        told.append((await asyncio.to_thread(lambda: f"{name} was answered"), loop.time()))

    async def work() -> None:
        context = copy_context()
        context.run(LIFE.set, life)
        asking = loop.create_task(ask("the dead"), context=context)
        loop.call_later(1, lambda: setattr(life, "alive", False))
        await ask("the living")
        assert not asking.done()

    run(loop, work())
    assert told == [("the living was answered", 3.0)]
