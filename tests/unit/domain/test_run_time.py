"""How long a run lasted, whatever the wall clock did meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms.domain.run_time import Instant, RunTime, began

SECOND = 1_000_000
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND
START = Instant("boot", 500 * SECOND, 1_700_000_000 * SECOND)
RUN = RunTime(START, 10 * 60 * SECOND)


def later(seconds: float, step_us: int = 0, boot_id: str = "boot") -> Instant:
    passed = int(seconds * SECOND)
    return Instant(boot_id, START.boot_us + passed, START.wall_us + passed + step_us)


@given(st.sampled_from([-5 * DAY, -HOUR, 0, HOUR, 5 * DAY]), st.floats(0, 3_600))
def test_a_step_of_the_wall_clock_changes_no_run_time(step_us: int, seconds: float) -> None:
    now = later(seconds, step_us)
    assert RUN.elapsed_us(now) == int(seconds * SECOND)
    assert RUN.is_over(now) is (int(seconds * SECOND) >= RUN.limit_us)
    assert RUN.left_seconds(now) == max(0, RUN.limit_us - int(seconds * SECOND)) / SECOND


@given(st.sampled_from([-5 * DAY, -HOUR, HOUR, 5 * DAY]))
def test_the_engines_stamps_do_not_count_across_a_step(step_us: int) -> None:
    finished_at = START.wall_us + 60 * SECOND + step_us
    assert RUN.lasted_seconds(later(61, step_us), START.wall_us, finished_at) == 61


def test_the_engines_stamps_are_exact_where_nothing_was_stepped() -> None:
    """Also for an end that is seen an hour later."""
    assert RUN.lasted_seconds(later(3_600), START.wall_us, START.wall_us + 60 * SECOND) == 60


def test_a_run_did_not_last_longer_than_until_now() -> None:
    assert RUN.lasted_seconds(later(30), START.wall_us, START.wall_us + 60 * SECOND) == 30


def test_without_the_engines_stamps_a_run_lasted_until_now() -> None:
    assert RUN.lasted_seconds(later(30), 0, 0) == 30
    assert RUN.lasted_seconds(later(30), START.wall_us, 0) == 30


def test_over_a_reboot_and_for_old_runs_the_wall_clock_is_left() -> None:
    rebooted = Instant("another", 5 * SECOND, START.wall_us + 120 * SECOND)
    assert RUN.elapsed_us(rebooted) == 120 * SECOND
    old = RunTime(Instant("", 0, START.wall_us), RUN.limit_us)
    assert old.elapsed_us(later(120)) == 120 * SECOND
    assert old.elapsed_us(later(0, -HOUR)) == 0


def test_a_process_tells_its_own_start() -> None:
    now = later(100, step_us=DAY)
    found = began(now, asked=None, started_at=START.wall_us, started_boot_us=START.boot_us)
    assert RunTime(found, RUN.limit_us).elapsed_us(now) == 100 * SECOND


def test_what_we_started_began_when_we_asked() -> None:
    """And not when another machine's clock says."""
    assert began(later(2), asked=START, started_at=START.wall_us + HOUR, started_boot_us=0) == START


def test_what_is_found_running_elsewhere_has_only_its_engines_stamp() -> None:
    now = later(100)
    found = began(now, asked=None, started_at=START.wall_us, started_boot_us=0)
    assert found == START
    assert began(now, asked=None, started_at=0, started_boot_us=0) == now


def test_a_process_that_began_before_is_put_on_both_clocks() -> None:
    now = Instant("boot", 500, 10_000)
    assert began(now, asked=None, started_at=0, started_boot_us=200) == Instant("boot", 200, 9_700)
    assert began(now, asked=START, started_at=9_000, started_boot_us=200) == Instant("boot", 200, 9_700)


def test_a_stamp_of_the_future_is_now() -> None:
    now = Instant("boot", 500, 10_000)
    assert began(now, asked=None, started_at=9_600, started_boot_us=0) == Instant("boot", 100, 9_600)
    assert began(now, asked=None, started_at=10_001, started_boot_us=0) == now
