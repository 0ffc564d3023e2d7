"""History run again into fresh views, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from dms.domain.event import Fact
from projections.base import Folds

PAGE = 5000


class History(Protocol):
    def read(self, after: int, limit: int, until: int) -> Sequence[Fact]: ...


def replay(
    log: History, until: int, folds: Folds, watch: Callable[[Sequence[Fact]], None] | None = None
) -> Iterator[int]:
    """Folds all events up to `until`. Yields the number of events of each page; watch: is shown each page too."""
    position = 0
    while page := log.read(position, PAGE, until):
        folds.take(page)
        if watch is not None:
            watch(page)
        position = page[-1].position
        yield len(page)
