"""When others wait, the file that goes slowest makes room, once it has had its turn."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dms.application.files.turns import TURN_SECONDS, Turns


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_nobody_makes_room_before_its_turn_is_over(turns: Turns, clock: Clock) -> None:
    assert not turns.make_room(clock)
    with turns.turn("a", clock) as turn:
        clock.now += TURN_SECONDS - 1
        assert not turns.make_room(clock)
        clock.now += 1
        assert turns.make_room(clock)
        assert (turn.is_over, turns.ending, len(turns), turns.of("a"), turns.of("b")) == (True, 1, 1, 1, 0)
        assert not turns.make_room(clock)  # it ends already
    assert (len(turns), turns.ending) == (0, 0)


def test_the_slowest_makes_room(turns: Turns, clock: Clock) -> None:
    with ExitStack() as running:
        quick, slow, slower = (running.enter_context(turns.turn(peer, clock)) for peer in "abc")
        for turn, size in ((quick, 9000), (slow, 200), (slower, 100)):
            turn.moved(size)
        clock.now += TURN_SECONDS
        for expected in (slower, slow, quick):
            assert not expected.is_over
            assert turns.make_room(clock)
            assert expected.is_over


def test_who_was_quick_once_and_stalls_counts_as_slow(turns: Turns, clock: Clock) -> None:
    with turns.turn("a", clock) as stalled, turns.turn("b", clock) as steady:
        for _ in range(10):
            steady.moved(1000)
            clock.now += TURN_SECONDS / 10
        stalled.moved(1_000_000)
        assert stalled.bytes_per_second > steady.bytes_per_second
        for _ in range(30):
            clock.now += TURN_SECONDS / 10
            steady.moved(1000)
            assert steady.bytes_per_second == pytest.approx(10_000 / TURN_SECONDS, rel=0.2)
            assert stalled.bytes_per_second >= 0
        assert turns.make_room(clock)
        assert (stalled.is_over, steady.is_over) == (True, False)
