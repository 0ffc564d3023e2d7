"""A few kills at random moments; `make soak` makes a thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.random_kills import run

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

KILLS = 4


async def test_whenever_they_are_killed_nothing_acknowledged_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    report = await run(tmp_path, KILLS, seed=1, most_seconds=600)
    assert not report.faults, "\n".join(report.faults)
    assert report.signals.total() == KILLS
    assert report.jobs
    assert report.acknowledged > report.jobs
