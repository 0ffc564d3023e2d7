"""How many events there were when: found by looking at a few of them, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

TimeAt = Callable[[int], int]
"""Position -> when its event was recorded, Unix µs."""


class Bucket(Struct, frozen=True, kw_only=True, gc=False):
    """Of a span of time. position: of its first event, or of the next one where it has none. time: when the span
    begins, Unix µs. count: its events."""

    position: int
    time: int
    count: int


class Density(Struct, frozen=True, kw_only=True):
    """first_position: 0 for an empty log. Times: Unix µs, of the first and the newest event; 0 where there are none."""

    first_position: int
    head: int
    first_time: int
    last_time: int
    buckets: tuple[Bucket, ...]


def density(head: int, time_at: TimeAt, buckets: int) -> Density:
    """Spans of the same length, at most so many, from the first event to the newest. Each event is in one of them.
    Where a clock was set back, the events around that step may count for a neighbouring span."""
    if head == 0:
        return Density(first_position=0, head=0, first_time=0, last_time=0, buckets=())
    first_time = time_at(1)
    last_time = max(first_time, time_at(head))
    length = max(1, -(-(last_time - first_time + 1) // buckets))
    starts = range(first_time, last_time + 1, length)
    found: list[Bucket] = []
    position = 1
    for start in starts:
        following = first_at(start + length, position, head, time_at) if start != starts[-1] else head + 1
        found.append(Bucket(position=position, time=start, count=following - position))
        position = following
    return Density(first_position=1, head=head, first_time=first_time, last_time=last_time, buckets=tuple(found))


def of_some(events: Sequence[tuple[int, int]], head: int, buckets: int) -> Density:
    """The same of some of the log's events alone. events: (position, Unix µs)."""
    events = sorted(events)
    found = density(len(events), lambda number: events[number - 1][1], buckets)
    positions = [0, *(position for position, _ in events), head]
    return replace(
        found,
        first_position=positions[found.first_position],
        head=head,
        buckets=tuple(replace(bucket, position=positions[bucket.position]) for bucket in found.buckets),
    )


def first_at(time: int, low: int, head: int, time_at: TimeAt) -> int:
    """The first position from `low` on whose event is of that time or later; head + 1 for none."""
    high = head + 1
    while low < high:
        middle = (low + high) // 2
        if time_at(middle) < time:
            low = middle + 1
        else:
            high = middle
    return low
