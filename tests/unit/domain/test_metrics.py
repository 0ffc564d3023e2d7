"""Figures that a job prints: what counts as one, and how many are kept."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dms.domain.metrics import MOST_SERIES, Metrics, Series, figures_of


@pytest.mark.parametrize(
    ("text", "step", "values"),
    [
        ("dms-metric loss=0.25 step=100", 100, {"loss": 0.25}),
        ("dms-metric step=3 train/loss=1e-3 acc.top-5=-2", 3, {"train/loss": 0.001, "acc.top-5": -2.0}),
        ("dms-metric loss=1", None, {"loss": 1.0}),
        ("dms-metric loss=nan acc=inf ok=1 rubbish =3 x= step=-1", None, {"ok": 1.0}),
        ("dms-metric loss=1 step=99999999999999999999", None, {"loss": 1.0}),
        ("dms-metrics loss=1", None, {}),
        (" dms-metric loss=1", None, {}),
        ("loss=1", None, {}),
        ("", None, {}),
        ("dms-metric " + "a" * 65 + "=1", None, {}),
        ("dms-metric loss=1 " + "x" * 5000, None, {}),
    ],
)
def test_only_lines_of_that_form_hold_figures(text: str, step: int | None, values: dict[str, float]) -> None:
    assert figures_of(text) == (step, values)


@given(some.text())
def test_no_line_is_an_error(text: str) -> None:
    _, values = figures_of("dms-metric " + text)
    assert all(math.isfinite(value) for value in values.values())


@given(some.integers(0, 5_000), some.sampled_from([2, 3, 10, 64]))
def test_of_many_values_some_are_kept_evenly_and_the_first_and_last_always(count: int, most: int) -> None:
    series = Series(most)
    for number in range(count):
        series.add(None, float(number), number)
    steps = [point.step for point in series.points]
    assert series.count == count
    assert len(steps) <= most + 1
    assert steps[:1] == ([1] if count else [])
    assert steps[-1:] == ([count] if count else [])
    gaps = {after - before for before, after in pairwise(steps[:-1])}
    assert len(gaps) <= 1


def test_names_beyond_the_bound_are_counted_and_not_kept() -> None:
    metrics = Metrics()
    metrics.take([(f"dms-metric name{number}=1 step=1", 0) for number in range(MOST_SERIES + 5)] * 2)
    assert len(metrics.series) == MOST_SERIES
    assert metrics.left_out == 5
