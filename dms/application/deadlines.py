"""Deadlines that are kept as times of the wall clock, so that a restart goes on with them, and are held by a clock that
takes no steps: a wall clock that is set ends nobody's patience, and lengthens none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dms.recent import Recent

MICROSECONDS = 1_000_000
MOST_HELD = 10_000  # at a time; what of others is left is told by the wall clock


class Deadlines:
    """Of one kind, by key."""

    def __init__(self, now: Callable[[], int], longest_seconds: float) -> None:
        """now: Unix time in microseconds. longest_seconds: from the beginning of each."""
        self._now, self._longest_seconds = now, longest_seconds
        self._ends: Recent[str, float] = Recent(MOST_HELD)  # seconds of the loop's clock

    def begin(self, key: str) -> int:
        """The end, as it is to be kept: Unix time in microseconds."""
        self._ends[key] = asyncio.get_running_loop().time() + self._longest_seconds
        return self._now() + int(self._longest_seconds * MICROSECONDS)

    def left_seconds(self, key: str, until: int) -> float:
        """0 or less when it is over. until: as it was kept, which counts at the first look after a start alone."""
        clock = asyncio.get_running_loop().time()
        end = self._ends.get(key)
        if end is None:
            end = clock + min((until - self._now()) / MICROSECONDS, self._longest_seconds)
        self._ends[key] = end  # the newest of those that are looked at
        return end - clock

    def forget(self, key: str) -> None:
        self._ends.pop(key, None)
