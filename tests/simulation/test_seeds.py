"""Seeds that are run each time, and what they are worth: bugs that were mended are found when they are put back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.__main__ import hunt_all, run_all
from tests.simulation.put_back import BUGS, MOST_SEEDS, a_payment_pays_twice, hunt
from tests.simulation.run import run_seed

ROOT = Path(__file__).parents[2]
CHUNKS, SEEDS_A_CHUNK = 2, 50
FAULTS = (
    "loss", "delay", "double", "lost answer", "reset", "cut stream", "a line is cut", "an engine is away",
    "the chain is away", "is killed", "as it commits", "is stopped", "is full", "is slow",
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_fails_every_job_ends_once_and_nothing_is_forgotten(chunk: int) -> None:
    seeds = range(chunk * SEEDS_A_CHUNK, (chunk + 1) * SEEDS_A_CHUNK)
    outcomes = [run_seed(seed) for seed in seeds]
    failed = [f"{one.failure}\n  replay it: {one.replay}" for one in outcomes if one.failure]
    assert not failed, "\n".join(failed)
    met = {fault for one in outcomes for fault in one.met}
    missed = [fault for fault in FAULTS if not any(fault in name for name in met)]
    assert not missed, f"these faults were never met: {missed}"


def test_a_seed_is_the_same_run_in_another_process_and_prints_it() -> None:
    here = run_seed(47)
    there = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "47"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    ).stdout.splitlines()
    assert there[-2:] == ["passed", here.digest]
    assert any("deployment.container_started" in line for line in there)


def test_many_seeds_are_run_by_processes_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all(range(2), workers=1) == 0
    assert capsys.readouterr().out.startswith("2 seeds, 0 failed")


def test_where_mended_bugs_are_found_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.simulation.__main__.BUGS", (a_payment_pays_twice,))
    assert hunt_all() == 0
    assert capsys.readouterr().out.startswith(f"a_payment_pays_twice: seed {BUGS[a_payment_pays_twice]}: Violation")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_mended_bug_is_found_when_it_is_put_back(bug: Callable[[pytest.MonkeyPatch], None]) -> None:
    found = hunt(bug, BUGS[bug])
    assert found is not None, f"not found in {MOST_SEEDS} seeds"
    assert found.seed < MOST_SEEDS
    assert found.replay.endswith(f"--seed {found.seed}")
    assert run_seed(found.seed).failure == "", "it is the bug that fails, not the seed"
