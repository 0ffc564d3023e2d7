"""Curves of characters: dots of Braille patterns, or stars where they can't be shown."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # Unicode, block Braille Patterns: rows of 2 dots
_BLANK = 0x2800
_BLOCKS, _PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
_LEFT = 11  # characters of the labels on the left


def plot(points: Sequence[tuple[float, float]], width: int, height: int, *, braille: bool = True) -> list[str]:
    """Lines of text with the curve through the points (x, y), at least one. width, height: in characters, with the
    labels."""
    columns, rows = max(8, width - _LEFT - 2), max(2, height - 2)
    across, down = (2, 4) if braille else (1, 1)
    low, high = min(y for _, y in points), max(y for _, y in points)
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    canvas = _Canvas(columns * across, rows * down)
    places = [
        (_place(x, first, last, canvas.width), canvas.height - 1 - _place(y, low, high, canvas.height))
        for x, y in points
    ]
    for begin, end in zip(places, [*places[1:], places[-1]], strict=True):
        canvas.line(begin, end)
    lines = canvas.braille() if braille else canvas.stars()
    labels = {0: _label(high), rows - 1: _label(low)}
    shown = [f"{labels.get(number, ''):>{_LEFT}} |{line}" for number, line in enumerate(lines)]
    below = f"{_label(first)}{_label(last):>{max(1, columns - len(_label(first)))}}"
    return [*shown, f"{'':>{_LEFT}} +{'-' * columns}", f"{'':>{_LEFT}}  {below}"]


def sparkline(values: Sequence[float], width: int, *, blocks: bool = True) -> str:
    """One line from 0 to the highest value. More values than characters: their means."""
    forms = _BLOCKS if blocks else _PLAIN_BLOCKS
    each = max(1, math.ceil(len(values) / width))
    parts = [values[first : first + each] for first in range(0, len(values), each)]
    means = [sum(part) / len(part) for part in parts]
    highest = max(means, default=0.0)
    return "".join(forms[_place(mean, 0.0, highest, len(forms)) if highest > 0 else 0] for mean in means)


def shows_braille() -> bool:
    """Whether standard output can show dots and blocks."""
    try:
        "\u28ff".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._set: set[tuple[int, int]] = set()

    def line(self, begin: tuple[int, int], end: tuple[int, int]) -> None:
        steps = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1)
        for step in range(steps + 1):
            part = step / steps
            x, y = (round(a + (b - a) * part) for a, b in zip(begin, end, strict=True))
            self._set.add((x, y))

    def braille(self) -> list[str]:
        return [
            "".join(chr(_BLANK + self._pattern(x, y)) for x in range(0, self.width, 2))
            for y in range(0, self.height, 4)
        ]

    def _pattern(self, x: int, y: int) -> int:
        bits = (_DOTS[row][column] for row in range(4) for column in range(2) if (x + column, y + row) in self._set)
        return sum(bits)

    def stars(self) -> list[str]:
        return ["".join("*" if (x, y) in self._set else " " for x in range(self.width)) for y in range(self.height)]


def _place(value: float, low: float, high: float, places: int) -> int:
    """Which of so many places between the two."""
    if high <= low:
        return (places - 1) // 2
    span = high - low
    part = (value - low) / span if math.isfinite(span) else value / high / 2 - low / high / 2
    return min(max(round(part * (places - 1)), 0), places - 1)


def _label(value: float) -> str:
    return f"{value:.5g}"
