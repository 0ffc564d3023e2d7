"""The views as they were at a position of the log: the same folds, over the events up to it, and asked in the same SQL.

A row of one or two aggregates is now as it was then, unless events came since; those that changed are folded from their
streams alone, and stand in for the live rows. A view whose rows come from many is folded whole, from the newest
snapshot before the position, which the live view left on its way.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec import Struct

from dms.adapters.views.queries import Asked, Source, Sources
from dms.adapters.views.table import ViewTable
from dms.application.ports.event_log import EventLog
from dms.database import connect_in_memory
from dms.domain.event import Recorded
from dms.errors import Busy, Conflict
from dms.long_work import long_work
from dms.recent import Recent
from projections.base import BEGUN, KEY, POSITION, Page, Projection, Where, fold

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
PAGE = 5000
FOLDS_KEPT = 4  # views at a past position, in memory: the pages of one list ask for the same
FOLDS_AT_ONCE = 2
MOST_WAITING = 64  # for a fold, with those that fold
Moment = tuple[str, int]  # a view's name, and the position up to which events count


class Kept(Protocol):
    """What the live views keep for those of the past."""

    def table(self, projection: Projection[Any]) -> ViewTable: ...

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T: ...

    async def snapshot(self, projection: Projection[Any], position: int) -> tuple[int, dict[str, Any]]:
        """(position, rows by key) of the newest one that is not behind `position`; (0, {}) for none."""


class Rows(NamedTuple):
    """Where the rows of a moment are found. folded: those that are not the live table's own."""

    connection: sqlite3.Connection
    sources: Sources
    folded: Mapping[str, Any]


Look = Callable[[ViewTable, Rows], T]


class Whole:
    """All rows of a view at one moment, in memory."""

    def __init__(self, table: ViewTable, rows: Mapping[str, Any]) -> None:
        self.rows, self._table = rows, table
        self._lock = threading.Lock()
        self._connection = connect_in_memory()
        weakref.finalize(self, self._connection.close)
        _fill(self._connection, table, rows)

    def look(self, look: Look[T]) -> T:
        """Blocking."""
        with self._lock:
            return look(self._table, Rows(self._connection, (Source(_name(self._table)),), self.rows))


class PastFolds:
    """What was folded for those who asked last: a Whole, or rows by key."""

    def __init__(self) -> None:
        self._kept: Recent[Moment, Any] = Recent(FOLDS_KEPT)
        self._turns = asyncio.Semaphore(FOLDS_AT_ONCE)
        self._locks: WeakValueDictionary[Moment, asyncio.Lock] = WeakValueDictionary()
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, moment: Moment) -> Any:
        return self._kept.get(moment)

    def keep(self, moment: Moment, found: Any) -> None:
        self._kept[moment] = found

    @asynccontextmanager
    async def turn(self, moment: Moment) -> AsyncIterator[None]:
        """To fold in: of those who want the same moment one after the other, who then find what the first has made.
        Raises Busy."""
        if self._waiting >= MOST_WAITING:
            raise Busy("too many moments of the past are being made just now; try again in a few seconds")
        self._waiting += 1
        try:
            async with self._locks.setdefault(moment, asyncio.Lock()), self._turns:
                yield
        finally:
            self._waiting -= 1


class PastViews:
    """Implements projections.base.Views for reading; position: up to which events count."""

    def __init__(self, kept: Kept, log: EventLog, folds: PastFolds, position: int) -> None:
        self._kept, self._log, self._folds, self.position = kept, log, folds, position

    async def wait(self, position: int) -> None:
        """The past does not change."""

    async def get(self, projection: Projection[S], key: str) -> S | None:
        streams = projection.streams(key)
        if streams is None:
            found: S | None = (await self._whole(projection)).rows.get(key)
            return found
        return await self._row(projection, key, streams)

    async def page(
        self,
        projection: Projection[S],
        *,
        limit: int,
        after: str = "",
        where: Where | None = None,
        newest_first: bool = False,
        order_by: str = "",
        offset: int = 0,
        counted: bool = False,
    ) -> Page:
        asked = Asked(limit, after, where or {}, newest_first, order_by, offset, counted)
        return await self._look(
            projection, lambda table, rows: table.page(rows.connection, asked, rows.sources, rows.folded)
        )

    async def totals(
        self, projection: Projection[Any], columns: Sequence[str], where: Where, sums: Sequence[str] = ()
    ) -> Mapping[tuple[Any, ...], tuple[int, ...]]:
        return await self._look(
            projection, lambda table, rows: table.totals(rows.connection, columns, where, sums, rows.sources)
        )

    async def rebuild(self, name: str) -> int:
        raise Conflict(f"view {name} of position {self.position} is made anew each time")

    def positions(self) -> Mapping[str, int]:
        return {}

    async def _look(self, projection: Projection[Any], look: Look[T]) -> T:
        if projection.streams("") is None:
            return await asyncio.to_thread((await self._whole(projection)).look, look)
        return await self._look_over_live(projection, look)

    # --- rows of their own streams -------------------------------------------------------------------
    async def _look_over_live(self, projection: Projection[Any], look: Look[T]) -> T:
        table = self._kept.table(projection)
        moment = projection.name, self.position
        folded: dict[str, Any] | None = self._folds.get(moment)
        if folded is None:
            folded = {}
            self._folds.keep(moment, folded)
        while True:  # a row may change while the others are folded
            missing, found = await self._kept.read(lambda connection: self._over(connection, table, folded, look))
            if found is not None:
                return found
            async with self._folds.turn(moment):
                for key in (key for key in missing if key not in folded):
                    folded[key] = await self._row(projection, key, projection.streams(key) or ())

    def _over(
        self, connection: sqlite3.Connection, table: ViewTable, folded: Mapping[str, Any], look: Look[T]
    ) -> tuple[Sequence[str], T | None]:
        """What was looked for, or the keys of rows that have to be folded first."""
        (live,) = (source.table for source in table.sources)
        ((newest,),) = connection.execute(f"SELECT max({POSITION}) FROM {live}")
        if (newest or 0) <= self.position:  # nothing came since
            return (), look(table, Rows(connection, table.sources, {}))
        changed = [
            key
            for (key,) in connection.execute(
                f"SELECT {KEY} FROM {live} WHERE {POSITION} > ? AND {BEGUN} <= ?", (self.position, self.position)
            )
        ]
        missing = [key for key in changed if key not in folded]
        if missing:
            return missing, None
        past = f"temp.{_name(table)}"
        sources = (Source(live, f"{POSITION} <= ?", (self.position,)), Source(past))
        try:
            _fill(connection, table, {key: folded[key] for key in changed}, "TEMP")
            return (), look(table, Rows(connection, sources, folded))
        finally:
            connection.execute(f"DROP TABLE IF EXISTS {past}")

    async def _row(self, projection: Projection[S], key: str, streams: Sequence[str]) -> S | None:
        events: list[Recorded] = []
        for stream in streams:
            events += await self._stream(stream)
        rows: dict[str, S] = {}
        await long_work(fold, projection, rows, sorted(events, key=lambda event: event.position))
        return rows.get(key)

    async def _stream(self, stream: str) -> list[Recorded]:
        found: list[Recorded] = []
        while True:
            page = await self._log.read(found[-1].position if found else 0, PAGE, stream=stream)
            found += [event for event in page if event.position <= self.position]
            if len(page) < PAGE or page[-1].position > self.position:
                return found

    # --- rows of many --------------------------------------------------------------------------------
    async def _whole(self, projection: Projection[Any]) -> Whole:
        moment = projection.name, self.position
        whole: Whole | None = self._folds.get(moment)
        if whole is not None:
            return whole
        async with self._folds.turn(moment):
            whole = self._folds.get(moment)
            if whole is None:
                whole = await self._fold_whole(projection)
                self._folds.keep(moment, whole)
            return whole

    async def _fold_whole(self, projection: Projection[Any]) -> Whole:
        position, rows = await self._kept.snapshot(projection, self.position)
        while position < self.position:
            page = await self._log.read(position, min(PAGE, self.position - position))
            await long_work(fold, projection, rows, page)
            position = page[-1].position
        return await long_work(Whole, self._kept.table(projection), rows)


def _name(table: ViewTable) -> str:
    return f"past_{table.projection.name}"


def _fill(connection: sqlite3.Connection, table: ViewTable, rows: Mapping[str, Any], kind: str = "") -> None:
    """A new table with the columns of the rows; they themselves stay where they are."""
    columns = table.projection.columns
    names = "".join(f", {column} {sort}" for column, sort in columns.items())
    connection.execute(f"CREATE {kind} TABLE {_name(table)} ({KEY} TEXT PRIMARY KEY{names}) WITHOUT ROWID")
    values = table.projection.column_values
    connection.executemany(
        f"INSERT INTO {_name(table)} VALUES ({','.join('?' * (1 + len(columns)))})",
        [(key, *values(row)) for key, row in rows.items() if row is not None],
    )
