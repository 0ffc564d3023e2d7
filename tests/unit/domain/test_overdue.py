"""How long a job may take at a provider that answers: no time limit counts while that provider is away, and a restart
of ours begins none anew."""

from __future__ import annotations

import math

import pytest

from dms.domain.overdue import (
    BEGIN_SECONDS,
    CATCH_UP_SECONDS,
    MARGIN_SECONDS,
    SAVED_BYTES_A_SECOND,
    STOP_SECONDS,
    Overdue,
    ProviderTimes,
)
from dms.domain.run_time import Instant

GRACE = 3600.0
MINUTES = 5
LIMIT = MINUTES * 60 + MARGIN_SECONDS
LONG_AGO = -10_000.0
SAVING = 1200.0


def at(seconds: float, boot: str = "boot", *, wall_step: float = 0.0) -> Instant:
    return Instant(boot, int((20_000 + seconds) * 1e6), int((1_000_000 + seconds + wall_step) * 1e6))


def since(seconds: float | None = None) -> ProviderTimes:
    times = ProviderTimes()
    times.begin(None if seconds is None else at(seconds))
    return times


def saving(begun: float) -> Overdue:
    """Of a job that may leave so much that it takes SAVING seconds to be archived."""
    return Overdue(GRACE, at(begun), int(SAVING * SAVED_BYTES_A_SECOND))


def left(
    overdue: Overdue,
    now: float,
    times: ProviderTimes,
    *,
    there: float | None = math.inf,
    running: bool = True,
    stop_since: float | None = None,
) -> float:
    return overdue.seconds_left(
        at(now), times, there_seconds=there, minutes=MINUTES, running=running, stopping=stop_since is not None,
        stop_since=None if stop_since is None else at(stop_since),
    )  # fmt: skip


def test_each_limit_counts_from_when_it_began_to_hold() -> None:
    overdue, times = Overdue(GRACE, at(LONG_AGO)), since(0)
    assert left(overdue, 0, times, running=False) == BEGIN_SECONDS
    assert left(overdue, 10, times, running=False) == BEGIN_SECONDS - 10
    times.begin(at(20))
    assert left(overdue, 20, times) == LIMIT
    assert left(overdue, 320, times) == LIMIT - 300
    assert left(overdue, 330, times, stop_since=330) == STOP_SECONDS
    assert left(overdue, 330 + STOP_SECONDS, times, stop_since=330) == 0


def test_what_an_older_version_recorded_has_its_limits_from_the_first_look_on() -> None:
    overdue, times = Overdue(GRACE, at(LONG_AGO)), since()
    assert left(overdue, 0, times, running=False) == BEGIN_SECONDS
    assert left(overdue, 100, times) == LIMIT
    assert left(overdue, 150, times) == LIMIT - 50


@pytest.mark.parametrize("wall_step", [5 * 86_400.0, -5 * 86_400.0])
def test_a_restart_begins_no_limit_anew_whatever_the_wall_clock_did(wall_step: float) -> None:
    overdue, times = Overdue(GRACE, at(400)), since(0)
    now = at(500, wall_step=wall_step)
    found = overdue.seconds_left(now, times, there_seconds=90, minutes=MINUTES, running=True, stopping=False)
    assert found == LIMIT - 500


@pytest.mark.parametrize(("limit", "stop_since"), [(STOP_SECONDS, 0.0), (LIMIT, None)])
def test_who_is_there_has_time_to_archive_what_the_job_left(limit: float, stop_since: float | None) -> None:
    """Behind each limit by which a job that runs is to be over, and not behind the one to begin."""
    overdue, times = saving(LONG_AGO), since(0)
    assert left(overdue, 0, times, stop_since=stop_since) == limit + SAVING
    assert left(overdue, limit + SAVING - 1, times, stop_since=stop_since) == 1
    assert left(overdue, limit + SAVING, times, stop_since=stop_since) == 0
    assert left(saving(LONG_AGO), 0, times, running=False) == BEGIN_SECONDS
    assert left(saving(LONG_AGO), 0, times, running=False, stop_since=0) == STOP_SECONDS


def test_who_falls_silent_as_it_archives_has_a_moment_to_come_back_and_no_more() -> None:
    overdue, times = saving(LONG_AGO), since(0)
    assert left(overdue, 500, times, stop_since=0) > 0
    assert left(overdue, 510, times, there=None, stop_since=0) == CATCH_UP_SECONDS - 10
    assert left(overdue, 520, times, there=3, stop_since=0) == STOP_SECONDS + SAVING - 520
    assert left(overdue, 520 + CATCH_UP_SECONDS, times, there=None, stop_since=0) == 0
    last = STOP_SECONDS + SAVING - 5
    assert left(overdue, last, times, stop_since=0) == 5
    assert left(overdue, last + 5, times, there=None, stop_since=0) == 0


def test_who_is_away_is_given_no_time_to_archive() -> None:
    overdue, times = saving(LONG_AGO), since(0)
    assert left(overdue, STOP_SECONDS - 1, times, there=None, stop_since=0) == 1
    assert left(overdue, STOP_SECONDS, times, there=None, stop_since=0) == 0
    assert left(saving(LONG_AGO), 0, times, there=None) == left(Overdue(GRACE, at(LONG_AGO)), 0, times, there=None)


def test_who_comes_and_goes_as_it_archives_is_not_waited_for_without_end() -> None:
    overdue, times = saving(LONG_AGO), since(0)
    for start in range(0, 40_000, 50):
        if left(overdue, start, times, there=None if start % 100 else 1, stop_since=0) <= 0:
            break
    assert STOP_SECONDS + SAVING <= start <= STOP_SECONDS + SAVING + 50


def test_the_owner_is_told_how_long_it_was_waited_for() -> None:
    overdue = saving(LONG_AGO)
    left(overdue, 0, since(0))
    assert overdue.reason(MINUTES).endswith(f"nor in the {(MARGIN_SECONDS + SAVING) / 60:g} min after it")
    left(overdue, 10_000, since(0), there=None, stop_since=0)
    assert overdue.reason(MINUTES).endswith(f"within {STOP_SECONDS / 60:g} min")


def test_a_limit_that_passed_while_we_were_away_leaves_the_provider_time_to_tell_what_happened() -> None:
    overdue, times = Overdue(GRACE, at(5000)), since(0)
    assert left(overdue, 5000, times, there=None) > CATCH_UP_SECONDS  # it was not heard yet
    assert left(overdue, 5010, times, there=5) == CATCH_UP_SECONDS - 5
    assert left(overdue, 5070, times, there=CATCH_UP_SECONDS) == 0
    assert left(overdue, 5000, times, there=0, stop_since=100) == CATCH_UP_SECONDS


@pytest.mark.parametrize("running", [False, True])
def test_what_a_provider_is_away_does_not_count(running: bool) -> None:
    overdue, times = Overdue(GRACE, at(LONG_AGO)), since(0)
    before = left(overdue, 0, times, running=running)
    times.fall_silent(at(0))
    assert left(overdue, 1800, times, running=running) == before
    times.come_back(at(1800))
    assert left(overdue, 1860, times, running=running) == before - 60


def test_no_limit_ends_what_an_absent_provider_runs_before_the_grace_is_over() -> None:
    overdue, times = Overdue(GRACE, at(LONG_AGO)), since(0)
    times.fall_silent(at(0))
    assert left(overdue, GRACE, times, there=None) > 0


def test_one_that_is_away_again_and_again_keeps_its_job_open_for_the_grace_at_most() -> None:
    """Also if it is never there for as long as it has to tell what happened."""
    overdue, times = Overdue(GRACE, at(LONG_AGO)), since(0)
    for start in range(0, 40_000, 100):
        times.fall_silent(at(start))
        times.come_back(at(start + 60))
        if left(overdue, start + 61, times, there=1) <= 0:
            break
    assert LIMIT + GRACE < start <= LIMIT + 2 * GRACE + 2 * CATCH_UP_SECONDS + 100


def test_what_it_was_away_before_the_start_makes_no_run_longer() -> None:
    overdue, times = Overdue(GRACE, at(LONG_AGO)), since(0)
    times.fall_silent(at(50))
    times.come_back(at(1950))
    times.begin(at(2100))
    assert left(overdue, 2100, times) == LIMIT


def test_a_termination_does_not_wait_for_a_provider_that_is_away() -> None:
    overdue, times = Overdue(GRACE, at(LONG_AGO)), since(0)
    times.fall_silent(at(0))
    assert left(overdue, STOP_SECONDS, times, there=None, stop_since=0) == 0
    assert "did not stop it" in overdue.reason(MINUTES)


@pytest.mark.parametrize(
    ("running", "stop_since", "told"),
    [
        (False, None, "the provider did not start it within 2 h"),
        (True, None, "the provider did not end it at its time limit of 5 min, nor in the 5 min after it"),
        (True, -10_000.0, "the provider did not stop it within 3 min"),
    ],
)
def test_the_owner_is_told_which_limit_it_was(running: bool, stop_since: float | None, told: str) -> None:
    overdue = Overdue(GRACE, at(LONG_AGO))
    left(overdue, 0, since(0), running=running, stop_since=stop_since)
    assert overdue.reason(MINUTES) == told


def test_a_silent_provider_has_its_grace_and_the_time_to_tell_beyond_the_limit() -> None:
    assert left(Overdue(GRACE, at(0)), 0, since(0), there=None) == LIMIT + GRACE + CATCH_UP_SECONDS


def test_all_silences_count_together() -> None:
    times = since(0)
    for gone, back in ((10, 20), (50, 75)):
        times.fall_silent(at(gone))
        times.come_back(at(back))
    times.fall_silent(at(90))
    times.come_back(None)  # an older version did not record when
    assert times.away_seconds(at(100)) == 35
    times.begin(at(100))
    assert times.away_seconds(at(100)) == 0
