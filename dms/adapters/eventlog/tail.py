"""The newest events, in memory: live subscribers read them here instead of from the disk."""

from __future__ import annotations

from collections.abc import Sequence

from dms.domain.event import Recorded

KEPT_EVENTS = 4096  # some 1.5 kB each, and at most twice as many


class Tail:
    """Holds at least the last `kept` positions (fewer before there were so many)."""

    def __init__(self, head: int, kept: int = KEPT_EVENTS) -> None:
        self.kept = kept
        self._events: list[Recorded] = []
        self._before = head  # the position before the first event held

    @property
    def head(self) -> int:
        """The newest position held, or the one it began behind."""
        return self._before + len(self._events)

    def extend(self, events: Sequence[Recorded]) -> None:
        """The events right behind the newest held."""
        self._events.extend(events)
        if len(self._events) > 2 * self.kept:
            dropped = len(self._events) - self.kept
            self._before += dropped
            del self._events[:dropped]

    def after(self, position: int, limit: int) -> Sequence[Recorded] | None:
        """Events behind the position; None when some of them are held no more."""
        start = position - self._before
        if start < 0:
            return None
        return self._events[start : start + limit]
