"""Durations as people write them: 90s, 10m, 1h, 2d."""

from __future__ import annotations

import re

PATTERN = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)"
UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WITH_UNIT = re.compile(PATTERN)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def seconds_in(text: str, unit_seconds: float | None = None) -> float:
    """unit_seconds: of a number without a unit, which is refused without. Raises ValueError."""
    text = text.strip()
    if unit_seconds is not None and _NUMBER.fullmatch(text):
        return float(text) * unit_seconds
    match = _WITH_UNIT.fullmatch(text)
    if not match:
        raise ValueError(f"Expected a number or a text such as 90s, 10m, 1h, 2d, got {text!r}")
    return float(match[1]) * UNIT_SECONDS[match[2]]
