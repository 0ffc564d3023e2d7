"""Figures that a job prints, such as the loss of a training: `dms-metric loss=0.25 accuracy=0.9 step=100`. Pure.

They are derived from the output, so they need no events, and are the same on both sides of a job.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from msgspec import Struct

PREFIX = "dms-metric"
STEP = "step"
MOST_SERIES = 64
MOST_POINTS = 2_000  # of one series; then every second one goes, and later ones are taken more rarely
LONGEST_LINE = 4_096
LARGEST_STEP = 2**53  # what every JSON reader holds exactly

_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_./-]{0,63})=(\S{1,64})")
_WHOLE = re.compile(r"[0-9]{1,16}")


class Point(Struct, frozen=True, gc=False):
    """step: as the job gave it, else its number in the series, from 1. time_ns: Unix."""

    step: int
    value: float
    time_ns: int


def figures_of(text: str) -> tuple[int | None, dict[str, float]]:
    """(step, name -> value) of a line of output; no values for any other line. What can't be read in it is left out."""
    if not text.startswith(PREFIX) or len(text) > LONGEST_LINE:
        return None, {}
    words = text.split()
    if words[0] != PREFIX:
        return None, {}
    step: int | None = None
    found: dict[str, float] = {}
    for word in words[1:]:
        pair = _PAIR.fullmatch(word)
        if pair is None:
            continue
        name, value = pair.groups()
        if name == STEP:
            step = int(value) if _WHOLE.fullmatch(value) and int(value) <= LARGEST_STEP else step
        elif (number := _number(value)) is not None:
            found[name] = number
    return step, found


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Series:
    """Values of one name in the order printed, of which so many are kept, evenly spread, and always the last."""

    def __init__(self, most: int = MOST_POINTS) -> None:
        self.count = 0  # of all that were printed
        self._most, self._stride = most, 1
        self._kept: list[Point] = []
        self._last: Point | None = None

    def add(self, step: int | None, value: float, time_ns: int) -> None:
        self._last = Point(self.count + 1 if step is None else step, value, time_ns)
        if self.count % self._stride == 0:
            self._kept.append(self._last)
            if len(self._kept) >= self._most:
                del self._kept[1::2]
                self._stride *= 2
        self.count += 1

    @property
    def points(self) -> list[Point]:
        ends = [] if self._last is None or self._kept[-1] is self._last else [self._last]
        return [*self._kept, *ends]


class Metrics:
    """All series of one job. left_out: names beyond the bound, which are not kept."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.left_out = 0
        self._too_many: set[str] = set()

    def take(self, lines: Iterable[tuple[str, int]]) -> None:
        """lines: (text, Unix ns)."""
        for text, time_ns in lines:
            step, values = figures_of(text)
            for name, value in values.items():
                series = self._of(name)
                if series is not None:
                    series.add(step, value, time_ns)

    def _of(self, name: str) -> Series | None:
        known = self.series.get(name)
        if known is None and len(self.series) < MOST_SERIES:
            known = self.series[name] = Series()
        elif known is None and len(self._too_many) < MOST_SERIES:
            self._too_many.add(name)
            self.left_out = len(self._too_many)
        return known
