"""How long a job may take at a provider that answers: no time limit counts while that provider is away."""

from __future__ import annotations

import pytest

from dms.domain.overdue import BEGIN_SECONDS, MARGIN_SECONDS, STOP_SECONDS, Overdue

GRACE = 3600.0


def left(overdue: Overdue, now: float, *, away: float = 0.0, running: bool = True, stopping: bool = False) -> float:
    return overdue.seconds_left(now, away_seconds=away, minutes=5, running=running, stopping=stopping)


def test_each_limit_counts_from_when_it_begins_to_hold() -> None:
    overdue = Overdue(GRACE)
    assert left(overdue, 1000, running=False) == BEGIN_SECONDS
    assert left(overdue, 1010, running=False) == BEGIN_SECONDS - 10
    assert left(overdue, 1020) == 300 + MARGIN_SECONDS
    assert left(overdue, 1320) == MARGIN_SECONDS
    assert left(overdue, 1330, stopping=True) == STOP_SECONDS
    assert left(overdue, 1330 + STOP_SECONDS, stopping=True) == 0


@pytest.mark.parametrize("running", [False, True])
def test_what_a_provider_is_away_does_not_count(running: bool) -> None:
    overdue = Overdue(GRACE)
    before = left(overdue, 0, running=running)
    assert left(overdue, 1800, away=1800, running=running) == before
    assert left(overdue, 1860, away=1800, running=running) == before - 60


def test_one_that_is_away_again_and_again_keeps_its_job_open_for_the_grace_at_most() -> None:
    overdue = Overdue(GRACE)
    before = left(overdue, 0)
    assert left(overdue, 3 * GRACE, away=3 * GRACE) == before - 2 * GRACE


def test_what_it_was_away_before_the_start_makes_no_run_longer() -> None:
    overdue = Overdue(GRACE)
    left(overdue, 0, running=False)
    left(overdue, 2000, away=1900, running=False)
    assert left(overdue, 2100, away=1900) == 300 + MARGIN_SECONDS


def test_a_termination_does_not_wait_for_a_provider_that_is_away() -> None:
    overdue = Overdue(GRACE)
    left(overdue, 0, stopping=True)
    assert left(overdue, STOP_SECONDS, away=STOP_SECONDS, stopping=True) == 0
    assert "did not stop it" in overdue.reason(5)
