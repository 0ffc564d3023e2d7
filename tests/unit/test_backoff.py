"""Pauses between tries, and durations as people write them."""

from __future__ import annotations

import pytest

from dms.backoff import Backoff, nth_pause
from dms.durations import seconds_in


def test_pauses_double_up_to_the_longest_and_begin_again() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.upcoming == 3.0
    backoff.reset()
    assert (backoff.upcoming, backoff.next(), backoff.next()) == (0.5, 0.5, 1.0)


def test_pauses_of_many_are_spread_and_grow_all_the_same() -> None:
    many = [Backoff(2.0, 16.0) for _ in range(50)]
    for pause in (2.0, 4.0, 8.0, 16.0, 16.0):
        spread = [backoff.spread() for backoff in many]
        assert pause / 2 <= min(spread) < max(spread) <= pause


def test_the_millionth_pause_is_the_longest() -> None:
    assert nth_pause(10**6, 0.001, 1e12) == 0.001 * 2.0**30
    assert nth_pause(10**6, 0.2, 60.0) == 60.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("1.5m", 90.0), (" 2 h ", 7200.0), ("1d", 86400.0), ("250ms", 0.25)]
)
def test_a_duration_with_a_unit(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds_in(text, unit_seconds=60.0) == seconds


def test_a_number_alone_needs_to_be_told_its_unit() -> None:
    assert seconds_in("2", unit_seconds=60.0) == 120.0
    for wrong in ("2", "", "m", "2 weeks", "-1s", "1e3s"):
        with pytest.raises(ValueError, match="Expected a number"):
            seconds_in(wrong)
