"""Curves in the terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dms.cli.plot import plot, sparkline
from tests.unit.cli.nunet import JOB, nunet
from tests.unit.cli.tiny_dms import TinyDms

FIGURES = some.floats(allow_nan=False, allow_infinity=False)


def test_a_rising_line_goes_from_below_to_above() -> None:
    lines = plot([(x, x) for x in range(10)], 33, 6, braille=False)
    *rows, _axis, below = lines
    assert [len(line) for line in lines[:-1]] == [33] * 5
    assert rows[0].split("|")[1].rstrip().endswith("*")
    assert rows[-1].split("|")[1].startswith("*")
    assert rows[0].split()[0] == "9"
    assert below.split() == ["0", "9"]


@given(some.lists(some.tuples(FIGURES, FIGURES), min_size=1, max_size=20), some.booleans())
def test_any_figures_fit(points: list[tuple[float, float]], braille: bool) -> None:
    lines = plot(points, 40, 8, braille=braille)
    assert len(lines) == 8
    assert all(len(line) <= 60 for line in lines)


POINTS = [{"step": step, "value": 1 / step, "time": "2026-01-31T12:00:00+00:00"} for step in range(1, 50)]
METRICS = {
    "job_id": JOB,
    "left_out": 0,
    "series": [{"name": name, "count": 49, "points": POINTS} for name in ("loss", "acc\x1b[2J")],
}


def test_a_jobs_figures_are_plotted_or_printed() -> None:
    with TinyDms().running() as tiny:
        tiny.answers[f"GET /jobs/{JOB}/metrics"] = (200, METRICS)
        shown = nunet("job", "plot", JOB, "--width", "60", tiny=tiny)
        assert shown.exit_code == 0
        assert "loss: 0.0204082 at step 49, 49 values" in shown.stdout
        assert "\x1b" not in shown.stdout
        assert any("\u2800" < letter <= "\u28ff" for letter in shown.stdout)
        one = json.loads(nunet("job", "plot", JOB, "--name", "loss", "-o", "json", tiny=tiny).stdout)
        assert [series["name"] for series in one["series"]] == ["loss"]


@pytest.mark.parametrize("names", [(), ("--name", "loss")])
def test_a_job_without_figures_is_told_how_to_print_them(names: tuple[str, ...]) -> None:
    with TinyDms().running() as tiny:
        tiny.answers[f"GET /jobs/{JOB}/metrics"] = (200, METRICS | {"series": []})
        result = nunet("job", "plot", JOB, *names, tiny=tiny)
    assert (result.exit_code, "dms-metric loss=0.25 step=100" in result.stderr) == (3, True)


def test_a_sparkline_rises_from_nothing_to_the_highest_value() -> None:
    assert sparkline([0, 1, 2, 4], 30) == "▁▃▅█"
    assert sparkline([0, 4], 30, blocks=False) == "_#"
    assert sparkline([], 30) == ""
    assert sparkline([0, 0], 30) == "▁▁"


def test_more_values_than_characters_are_shown_as_means() -> None:
    assert sparkline([0, 0, 2, 2, 4, 4], 3) == "▁▅█"
    assert len(sparkline(list(range(360)), 30)) == 30
