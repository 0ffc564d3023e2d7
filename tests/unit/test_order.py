"""Tests side by side: the long ones are spread, and what shares something of its module stays together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import order

ROOT = Path(__file__).parents[2]


def test_the_long_ones_come_first_and_the_short_ones_end_with_them() -> None:
    seconds = {"a": 20.0, "b": 60.0, "c": 40.0} | {f"s{number}": 2.0 for number in range(60)}
    mixed = order.spread(seconds, seconds.__getitem__)
    assert sorted(mixed) == sorted(seconds)
    assert [name for name in mixed if name in "abc"] == ["b", "c", "a"]
    assert [name for name in mixed if name not in "abc"] == [f"s{number}" for number in range(60)]
    assert [mixed.index(name) for name in "bca"] == [0, 31, 52]


@pytest.mark.parametrize("seconds", [0.0, 100.0])
def test_of_one_kind_alone_none_is_lost(seconds: float) -> None:
    assert order.spread("xyz", lambda _: seconds) == list("xyz")


def test_the_record_is_made_from_what_pytest_prints() -> None:
    printed = """
8.50s call     tests/e2e/test_a.py::test_long[a b]
3.00s setup    tests/e2e/test_a.py::test_shared@tests/e2e/test_a.py
6.00s call     tests/e2e/test_a.py::test_shared@tests/e2e/test_a.py
7.99s call     tests/e2e/test_a.py::test_short
"""
    assert order.durations(printed) == {
        "tests/e2e/test_a.py::test_long[a b]": 8.5,
        "tests/e2e/test_a.py::test_shared": 9,
    }


@pytest.mark.parametrize("name", sorted({name.partition("[")[0] for name in order.recorded()}))
def test_what_is_on_record_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"def {function.rpartition('::')[2]}(" in (ROOT / file).read_text()


MODULE = """
import pytest

@pytest.fixture(scope="module")
def shared():
    pass

@pytest.mark.parametrize("number", range(10))
def test_shares(shared, number):
    pass

@pytest.mark.parametrize("number", range(10))
def test_alone(number):
    pass
"""


@pytest.mark.slow
def test_what_shares_something_of_its_module_runs_on_one_worker(tmp_path: Path) -> None:
    """Another worker would make it anew."""
    (tmp_path / "test_it.py").write_text(MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    beside = ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "tests.conftest", *beside, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    workers = [line.split()[0] for line in done.stdout.splitlines() if "PASSED" in line and "::test_shares" in line]
    assert (len(workers), len(set(workers))) == (10, 1), done.stdout
