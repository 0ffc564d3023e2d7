"""Whose doing an end was, by what an engine remembers of it."""

from __future__ import annotations

import pytest

from dms.adapters.executors.endings import (
    ContainerEvent,
    Ended,
    blame,
    may_have_run_out_of_memory,
    ran_out_of_memory,
)
from dms.domain.run_end import EndedBy

TERM, KILL, HUP, USR1 = 15, 9, 1, 10
SECOND = 1_000_000_000


def event(action: str, at: float, signal: int = 0) -> ContainerEvent:
    return ContainerEvent(container="c", action=action, time_ns=int(at * SECOND), signal=signal)


def ended(exit_code: int, *, oom: bool = False, stop_signal: int = TERM) -> Ended:
    return Ended(exit_code=exit_code, oom_killed=oom, stop_signal=stop_signal)


def who(end: Ended, *events: ContainerEvent, ours: bool = False, restarted: bool = False) -> EndedBy:
    return blame(end, events, ours=ours, engine_restarted=restarted)


@pytest.mark.parametrize("exit_code", [0, 1, 137, 143, 255])
def test_a_death_that_no_signal_preceded_is_the_jobs(exit_code: int) -> None:
    assert who(ended(exit_code), event("start", 0), event("die", 9)) is EndedBy.JOB


@pytest.mark.parametrize(("exit_code", "signal"), [(0, TERM), (143, TERM), (137, KILL), (5, KILL), (129, HUP)])
def test_a_signal_that_ended_it_is_its_senders_doing(exit_code: int, signal: int) -> None:
    told = (event("start", 0), event("kill", 5, signal), event("die", 9))
    assert who(ended(exit_code), *told) is EndedBy.OPERATOR
    assert who(ended(exit_code), *told, ours=True) is EndedBy.DMS
    assert who(ended(exit_code), *told, restarted=True) is EndedBy.ENGINE


def test_a_signal_of_news_and_one_that_was_long_ago_end_nothing() -> None:
    assert who(ended(0), event("start", 0), event("kill", 5, HUP), event("die", 6)) is EndedBy.JOB
    assert who(ended(0), event("start", 0), event("kill", 5, TERM), event("die", 7_000)) is EndedBy.JOB


def test_an_order_to_stop_that_was_carried_out_counts_however_long_it_took() -> None:
    told = (event("start", 0), event("kill", 5, TERM), event("die", 7_000), event("stop", 7_001))
    assert who(ended(0), *told) is EndedBy.OPERATOR


def test_an_image_says_which_signal_is_its_order_to_end() -> None:
    told = (event("start", 0), event("kill", 5, USR1), event("die", 6))
    assert who(ended(0, stop_signal=USR1), *told) is EndedBy.OPERATOR
    assert who(ended(0), *told) is EndedBy.JOB


def test_an_earlier_run_explains_nothing_of_the_last() -> None:
    told = (event("start", 0), event("kill", 5, TERM), event("die", 6), event("start", 7), event("die", 8))
    assert who(ended(0), *told) is EndedBy.JOB


def test_what_went_beyond_its_memory_is_the_jobs_own() -> None:
    assert who(ended(137, oom=True), event("start", 0), event("kill", 5, KILL), event("die", 6)) is EndedBy.JOB


def test_lack_of_memory_is_told_before_or_after_the_death_and_of_the_last_run_alone() -> None:
    died = (event("start", 0), event("die", 9))
    assert may_have_run_out_of_memory(ended(137), died)
    assert ran_out_of_memory((*died, event("oom", 9.1)))
    assert ran_out_of_memory((event("start", 0), event("oom", 8), event("die", 9)))
    assert not ran_out_of_memory((event("start", 0), event("oom", 8), event("die", 9), event("start", 10)))
    assert not may_have_run_out_of_memory(ended(143), died)
    assert not may_have_run_out_of_memory(ended(137), (event("start", 0), event("kill", 5, KILL), event("die", 6)))
    assert not may_have_run_out_of_memory(ended(137), ())


@pytest.mark.parametrize("exit_code", [137, 143, 255])
def test_a_broken_off_run_that_an_engine_forgot_is_the_engines_doing_once_it_was_started_again(exit_code: int) -> None:
    assert who(ended(exit_code), restarted=True) is EndedBy.ENGINE
    assert who(ended(exit_code), restarted=True, ours=True) is EndedBy.DMS
    assert who(ended(exit_code)) is EndedBy.JOB
    assert who(ended(0), restarted=True) is EndedBy.JOB
