"""A deadline is kept as a time of the wall clock and held by one that takes no steps."""

from __future__ import annotations

import asyncio

import pytest

from dms.application.deadlines import Deadlines

HOUR_US = 3600 * 1_000_000
DAYS_US = 120 * HOUR_US


class Wall:
    def __init__(self) -> None:
        self.time = 1_700_000_000 * 1_000_000

    def __call__(self) -> int:
        return self.time


@pytest.mark.parametrize("step", [HOUR_US, -HOUR_US, DAYS_US, -DAYS_US])
async def test_a_step_of_the_wall_clock_neither_ends_nor_lengthens_it(step: int) -> None:
    wall = Wall()
    deadlines = Deadlines(wall, 600.0)
    until = deadlines.begin("a")
    assert until == wall.time + 600_000_000
    wall.time += step
    left = deadlines.left_seconds("a", until)
    assert 0 < left <= 600
    wall.time -= step
    assert 0 < deadlines.left_seconds("a", until) <= left


async def test_after_a_start_the_wall_clock_says_what_is_left_and_never_more_than_the_whole() -> None:
    wall = Wall()
    until = Deadlines(wall, 600.0).begin("a")
    wall.time += 200_000_000
    assert Deadlines(wall, 600.0).left_seconds("a", until) == pytest.approx(400, abs=0.1)
    wall.time += HOUR_US
    assert Deadlines(wall, 600.0).left_seconds("a", until) < 0
    wall.time -= DAYS_US
    assert Deadlines(wall, 600.0).left_seconds("a", until) == pytest.approx(600, abs=0.1)


async def test_it_ends_by_itself_and_may_begin_anew() -> None:
    deadlines = Deadlines(Wall(), 0.01)
    until = deadlines.begin("a")
    while deadlines.left_seconds("a", until) > 0:
        await asyncio.sleep(0.001)
    deadlines.begin("a")
    assert deadlines.left_seconds("a", until) > 0
    deadlines.forget("a")
    assert deadlines.left_seconds("a", until - 1_000_000) < 0  # as kept
