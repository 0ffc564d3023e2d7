"""The pauses between tries of what keeps failing."""

from __future__ import annotations

import random


def nth_pause(number: int, first: float, longest: float) -> float:
    """Seconds before try 2, 3, ... for number 1, 2, ...: the first, then twice the one before, at most the longest."""
    return min(longest, first * 2.0 ** min(number - 1, 30))


class Backoff:
    """A row of pauses, which begins again with `reset` once something worked."""

    def __init__(self, first: float, longest: float) -> None:
        """In seconds."""
        self._first, self._longest, self._taken = first, longest, 0

    @property
    def upcoming(self) -> float:
        """Seconds, as `next` will give."""
        return nth_pause(self._taken + 1, self._first, self._longest)

    def next(self) -> float:
        """Seconds to wait now."""
        pause = self.upcoming
        self._taken += 1
        return pause

    def spread(self) -> float:
        """The same, up to a half shorter by chance: so that many who failed together do not come again together."""
        return self.next() * random.uniform(0.5, 1.0)  # noqa: S311  guards nothing

    def reset(self) -> None:
        self._taken = 0
