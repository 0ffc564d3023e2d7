"""Frames of which a part is here: a bound of them all, so that none fills the memory with what is never sent whole."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from trio.lowlevel import RunVar

MOST_BYTES = 32 << 20


class Reading(Protocol):
    peer_id: str

    def give_up(self) -> None:
        """On the frame that it reads."""


class ComingFrames:
    """Of one run of trio. Beyond MOST_BYTES the peer that has sent most gives way with what it began longest ago: a
    frame is a quarter of a MiB at most, so who is only slow is no such peer."""

    def __init__(self) -> None:
        self._parts: dict[Reading, int] = {}  # bytes, in the order begun
        self.size = 0  # bytes of all

    def have(self, reading: Reading, size: int) -> None:
        """So much of its frame is here, and not yet all."""
        self.size += size - self._parts.get(reading, 0)
        self._parts[reading] = size
        while self.size > MOST_BYTES:
            worst = self._oldest_of(self._peer_with_most())
            self.done(worst)
            worst.give_up()

    def done(self, reading: Reading) -> None:
        self.size -= self._parts.pop(reading, 0)

    def _peer_with_most(self) -> str:
        sizes = Counter[str]()
        for reading, size in self._parts.items():
            sizes[reading.peer_id] += size
        return sizes.most_common(1)[0][0]

    def _oldest_of(self, peer_id: str) -> Reading:
        return next(reading for reading in self._parts if reading.peer_id == peer_id)


_here: RunVar[ComingFrames] = RunVar("coming frames")


def coming_frames() -> ComingFrames:
    """In trio only."""
    try:
        return _here.get()
    except LookupError:
        _here.set(made := ComingFrames())
        return made
