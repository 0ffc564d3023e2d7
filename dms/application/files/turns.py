"""Files that go over at the same time: when others wait for a place, the slowest one makes room.

It goes on later where it was, so that nobody loses more than the wait; without that, a few peers who give or take just
enough to stay would keep all places for days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

TURN_SECONDS = 60.0  # each has at least this long, and its pace is that of the last one or two of them


class Turn:
    """One file's. is_over: it is to end, since others wait."""

    def __init__(self, peer_id: str, clock: Callable[[], float]) -> None:
        self.peer_id, self.is_over = peer_id, False
        self._clock, self._bytes = clock, 0
        self.began = clock()
        self._marks = [(self.began, 0), (self.began, 0)]  # (when, bytes until then)

    def moved(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        self._pass_marks()

    @property
    def bytes_per_second(self) -> float:
        self._pass_marks()
        when, before = self._marks[0]
        return (self._bytes - before) / max(self._clock() - when, 1e-9)

    def _pass_marks(self) -> None:
        now = self._clock()
        if now - self._marks[1][0] >= TURN_SECONDS:
            self._marks = [self._marks[1], (now, self._bytes)]


class Turns:
    """Those that go on now."""

    def __init__(self) -> None:
        self._all: list[Turn] = []

    def __len__(self) -> int:
        """Those that are to end included."""
        return len(self._all)

    def of(self, peer_id: str) -> int:
        """Likewise."""
        return sum(turn.peer_id == peer_id for turn in self._all)

    @property
    def ending(self) -> int:
        return sum(turn.is_over for turn in self._all)

    @contextmanager
    def turn(self, peer_id: str, clock: Callable[[], float]) -> Iterator[Turn]:
        """clock: in seconds."""
        made = Turn(peer_id, clock)
        self._all.append(made)
        try:
            yield made
        finally:
            self._all.remove(made)

    def make_room(self, clock: Callable[[], float]) -> bool:
        """Whether there was one that has had its turn: the slowest of them is to end."""
        had = [turn for turn in self._all if not turn.is_over and clock() - turn.began >= TURN_SECONDS]
        if had:
            min(had, key=lambda turn: turn.bytes_per_second).is_over = True
        return bool(had)
