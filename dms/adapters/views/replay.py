"""History run again into fresh views, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from dms.domain.event import Recorded
from projections.base import Projection, fold

PAGE = 5000


class History(Protocol):
    def read(self, after: int, limit: int, *, until: int | None = None) -> Sequence[Recorded]: ...


def replay(
    log: History,
    until: int,
    views: Mapping[str, tuple[Projection[Any], dict[str, Any]]],
    watch: Callable[[Sequence[Recorded]], None] | None = None,
) -> Iterator[int]:
    """Folds all events up to `until` into the rows of each view. Yields the number of events of each page; watch: is
    shown each page too."""
    position = 0
    while page := log.read(position, PAGE, until=until):
        for projection, rows in views.values():
            fold(projection, rows, page)
        if watch is not None:
            watch(page)
        position = page[-1].position
        yield len(page)
