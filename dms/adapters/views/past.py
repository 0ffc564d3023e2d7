"""The views as they were at a position of the log: the same folds, over the events up to it.

A row of one or two aggregates is folded from their streams alone. A view whose rows come from many is folded whole,
from the newest snapshot before the position, which the live view left on its way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from dms.application.ports import EventLog
from dms.domain.event import Recorded
from dms.errors import Conflict, InvalidInput
from dms.recent import Recent
from projections.base import Page, Projection, fold

S = TypeVar("S", bound=Struct)
PAGE = 5000
FOLDS_KEPT = 4  # whole views at a past position, in memory: the pages of one list ask for the same


class Kept(Protocol):
    """What the live views keep for those of the past."""

    async def keys(self, projection: Projection[Any], after: str, limit: int, *, newest_first: bool) -> Sequence[str]:
        """Keys of rows behind a key, in order."""

    async def snapshot(self, projection: Projection[Any], position: int) -> tuple[int, dict[str, Any]]:
        """(position, rows by key) of the newest one that is not behind `position`; (0, {}) for none."""


Folds = Recent[tuple[str, int], dict[str, Any]]
"""Whole folds that were asked for last: (view, position) -> rows by key."""


class PastViews:
    """Implements projections.base.Views for reading; position: up to which events count."""

    def __init__(self, kept: Kept, log: EventLog, folds: Folds, position: int) -> None:
        self._kept, self._log, self._folds, self.position = kept, log, folds, position

    async def wait(self, position: int) -> None:
        """The past does not change."""

    async def get(self, projection: Projection[S], key: str) -> S | None:
        streams = projection.streams(key)
        if streams is None:
            found: S | None = (await self._whole(projection)).get(key)
            return found
        return await self._row(projection, key, streams)

    async def page(
        self,
        projection: Projection[S],
        *,
        limit: int,
        after: str = "",
        where: Mapping[str, Any] | None = None,
        newest_first: bool = False,
    ) -> Page:
        fits = _fits(projection, where or {})
        found: list[tuple[str, S]] = []
        async for key, row in self._rows(projection, after, newest_first):
            if fits(row):
                found.append((key, row))
            if len(found) > limit:
                break
        rows = [row for _, row in found[:limit]]
        return Page(rows=rows, next=found[limit - 1][0] if len(found) > limit else "")

    async def rebuild(self, name: str) -> int:
        raise Conflict(f"view {name} of position {self.position} is made anew each time")

    def positions(self) -> Mapping[str, int]:
        return {}

    # --- rows in order -----------------------------------------------------------------------------
    async def _rows(self, projection: Projection[S], after: str, newest_first: bool) -> AsyncIterator[tuple[str, S]]:
        if projection.streams("") is None:
            rows = await self._whole(projection)
            for key in sorted(rows, reverse=newest_first):
                if not after or (key < after if newest_first else key > after):
                    yield key, rows[key]
            return
        while keys := await self._kept.keys(projection, after, 200, newest_first=newest_first):
            for key in keys:
                row = await self._row(projection, key, projection.streams(key) or ())
                if row is not None:
                    yield key, row
            after = keys[-1]

    async def _row(self, projection: Projection[S], key: str, streams: Sequence[str]) -> S | None:
        events: list[Recorded] = []
        for stream in streams:
            events += await self._stream(stream)
        rows: dict[str, S] = {}
        fold(projection, rows, sorted(events, key=lambda event: event.position))
        return rows.get(key)

    async def _stream(self, stream: str) -> list[Recorded]:
        found: list[Recorded] = []
        while True:
            page = await self._log.read(found[-1].position if found else 0, PAGE, stream=stream)
            found += [event for event in page if event.position <= self.position]
            if len(page) < PAGE or page[-1].position > self.position:
                return found

    async def _whole(self, projection: Projection[Any]) -> dict[str, Any]:
        rows = self._folds.get((projection.name, self.position))
        if rows is not None:
            return rows
        position, rows = await self._kept.snapshot(projection, self.position)
        while position < self.position:
            page = await self._log.read(position, min(PAGE, self.position - position))
            fold(projection, rows, page)
            position = page[-1].position
        self._folds[projection.name, self.position] = rows
        return rows


def _fits(projection: Projection[Any], where: Mapping[str, Any]) -> Callable[[Any], bool]:
    """The same filters as the live view's columns."""
    names = list(projection.columns)
    for column in where:
        if column not in names:
            raise InvalidInput(f"{projection.name} can't be filtered by {column}")
    wanted = [
        (names.index(column), {value} if isinstance(value, str) else set(value)) for column, value in where.items()
    ]

    def fits(row: Any) -> bool:
        values = projection.column_values(row)
        return all(values[index] in choices for index, choices in wanted)

    return fits
