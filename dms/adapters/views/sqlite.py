"""The views' tables, and the task that keeps them: folds each batch of the log into rows and writes
them with the position reached, in one transaction. Views are no truth: the file can be deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from dms.adapters.views.past import Folds, PastViews
from dms.application.loops import Loop, Loops
from dms.application.ports import EventLog
from dms.database import connect
from dms.domain.event import Recorded
from dms.errors import Conflict, InvalidInput, LogCorrupt, LogUnavailable, NotFound
from projections.base import Page, Projection

S = TypeVar("S", bound=Struct)
log = logging.getLogger(__name__)

REBUILD_BATCH = 5000
BUSY_SECONDS = 0.1
TRUNCATE_SECONDS = 10.0  # readers may hold the write-ahead log for a moment
SNAPSHOT_EVENTS = 20_000  # between two snapshots of a view whose past can't be folded row by row
SNAPSHOTS_KEPT = 64  # of one view; beyond it every other one goes
_STATE = """
CREATE TABLE IF NOT EXISTS view (name TEXT PRIMARY KEY, version INTEGER, position INTEGER, hash BLOB);
CREATE TABLE IF NOT EXISTS snapshot (name TEXT, position INTEGER, rows BLOB, PRIMARY KEY (name, position));
"""


class _View:
    """One projection's table. The rows of a batch are held in memory until it is written."""

    def __init__(self, projection: Projection[Any], connection: sqlite3.Connection) -> None:
        self.projection = projection
        self.position = 0
        self._connection = connection
        self._encode = msgspec.json.Encoder().encode
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(projection.row_type)
        names = list(projection.columns)
        marks = ",".join("?" * (2 + len(names)))
        self._upsert = f"INSERT OR REPLACE INTO view_{projection.name} VALUES ({marks})"
        self._select = f"SELECT body FROM view_{projection.name} WHERE key = ?"
        self._delete = f"DELETE FROM view_{projection.name} WHERE key = ?"

    def create(self) -> None:
        """Makes the table, or empties it when the fold has changed since."""
        name, version = self.projection.name, self.projection.version
        row = self._connection.execute("SELECT version, position FROM view WHERE name = ?", (name,)).fetchone()
        if row is not None and row[0] == version:
            self.position = row[1]
            return
        self.reset()

    def reset(self) -> None:
        name = self.projection.name
        columns = "".join(f", {column} {kind}" for column, kind in self.projection.columns.items())
        indexes = "".join(f"CREATE INDEX view_{name}_{c} ON view_{name} ({c}, key);" for c in self.projection.columns)
        self._connection.executescript(
            f"BEGIN; DROP TABLE IF EXISTS view_{name};"
            f"CREATE TABLE view_{name} (key TEXT PRIMARY KEY, body BLOB NOT NULL{columns}) WITHOUT ROWID;"
            f"{indexes} DELETE FROM view WHERE name = '{name}'; DELETE FROM snapshot WHERE name = '{name}'; COMMIT;"
        )
        self.position = 0

    def fold(self, events: Iterable[Recorded]) -> None:
        """Inside a transaction of the caller's: folds the events that follow on the position and writes the rows that
        changed. Events that do not follow on it are left alone: the view was emptied since they were read."""
        rows: dict[str, Any] = {}
        apply, key_of = self.projection.apply, self.projection.key
        reached, link = self.position, b""
        for recorded in events:
            if recorded.position <= reached:
                continue
            if recorded.position > reached + 1:
                break
            reached, link = recorded.position, recorded.hash
            key = key_of(recorded)
            if key is not None:
                before = rows[key] if key in rows else self.get(key, self._connection)
                rows[key] = apply(before, recorded)
        self._write(rows)
        if reached > self.position:
            self._connection.execute(
                "INSERT OR REPLACE INTO view VALUES (?, ?, ?, ?)",
                (self.projection.name, self.projection.version, reached, link),
            )
            if reached // SNAPSHOT_EVENTS > self.position // SNAPSHOT_EVENTS and self.projection.streams("") is None:
                self._take_snapshot(reached)
            self.position = reached

    def _take_snapshot(self, position: int) -> None:
        name = self.projection.name
        found = self._connection.execute(f"SELECT key, body FROM view_{name}")
        rows = zlib.compress(msgspec.json.encode({key: msgspec.Raw(body) for key, body in found}))
        self._connection.execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", (name, position, rows))
        taken = self._connection.execute(
            "SELECT position FROM snapshot WHERE name = ? ORDER BY position", (name,)
        ).fetchall()
        if len(taken) > SNAPSHOTS_KEPT:
            self._connection.executemany(
                "DELETE FROM snapshot WHERE name = ? AND position = ?", [(name, old) for (old,) in taken[:-1:2]]
            )

    def snapshot(self, connection: sqlite3.Connection, position: int) -> tuple[int, dict[str, Any]]:
        found = connection.execute(
            "SELECT position, rows FROM snapshot WHERE name = ? AND position <= ? ORDER BY position DESC LIMIT 1",
            (self.projection.name, position),
        ).fetchone()
        if found is None:
            return 0, {}
        bodies = msgspec.json.decode(zlib.decompress(found[1]), type=dict[str, msgspec.Raw])
        return found[0], {key: self._decoder.decode(body) for key, body in bodies.items()}

    def keys(self, connection: sqlite3.Connection, after: str, limit: int, newest_first: bool) -> list[str]:
        compare, order = ("<", "DESC") if newest_first else (">", "ASC")
        bound = after or ("\U0010ffff" if newest_first else "")
        found = connection.execute(
            f"SELECT key FROM view_{self.projection.name} WHERE key {compare} ? ORDER BY key {order} LIMIT ?",
            (bound, limit),
        )
        return [key for (key,) in found]

    def _write(self, rows: Mapping[str, Any]) -> None:
        values = self.projection.column_values
        kept = [(k, self._encode(r), *values(r)) for k, r in rows.items() if r is not None]
        self._connection.executemany(self._upsert, kept)
        self._connection.executemany(self._delete, [(k,) for k, r in rows.items() if r is None])

    def get(self, key: str, connection: sqlite3.Connection) -> Any:
        row = connection.execute(self._select, (key,)).fetchone()
        return None if row is None else self._decoder.decode(row[0])

    def counts(
        self, connection: sqlite3.Connection, columns: Sequence[str], where: Mapping[str, Sequence[str]]
    ) -> dict[tuple[Any, ...], int]:
        names = "".join(f"{column}, " for column in columns)
        filters = " AND ".join(f"{column} IN ({','.join('?' * len(wanted))})" for column, wanted in where.items())
        groups = f" GROUP BY {', '.join(columns)}" if columns else ""
        found = connection.execute(
            f"SELECT {names}count(*) FROM view_{self.projection.name}{' WHERE ' if filters else ''}{filters}{groups}",
            [value for wanted in where.values() for value in wanted],
        )
        return {tuple(row[:-1]): row[-1] for row in found}

    def page(
        self,
        connection: sqlite3.Connection,
        limit: int,
        after: str,
        where: Mapping[str, Any],
        newest_first: bool,
    ) -> Page:
        clauses, arguments = (
            ["key < ?" if newest_first else "key > ?"],
            [after or ("\U0010ffff" if newest_first else "")],
        )
        for column, wanted in where.items():
            if column not in self.projection.columns:
                raise InvalidInput(f"jobs can't be filtered by {column}")
            choices = [wanted] if isinstance(wanted, str) else list(wanted)
            clauses.append(f"{column} IN ({','.join('?' * len(choices))})")
            arguments += choices
        order = "DESC" if newest_first else "ASC"
        found = connection.execute(
            f"SELECT key, body FROM view_{self.projection.name} WHERE {' AND '.join(clauses)} "
            f"ORDER BY key {order} LIMIT ?",
            [*arguments, limit + 1],
        ).fetchall()
        rows = [self._decoder.decode(body) for _, body in found[:limit]]
        return Page(rows=rows, next=found[limit - 1][0] if len(found) > limit else "")


class SQLiteViews:
    """Implements projections.base.Views. `start()` catches up with the log before it returns."""

    def __init__(
        self,
        database: Path,
        event_log: EventLog,
        projections: Sequence[Projection[Any]],
        loops: Loops | None = None,
    ) -> None:
        self._database, self._log, self._projections = database, event_log, projections
        self._loops = loops or Loops()
        self._lock = threading.Lock()  # around the one connection; every use is short
        self._connection = self._open()
        self._views = {p.name: _View(p, self._connection) for p in projections}
        for view in self._views.values():
            view.create()
        self._folds = Folds()
        self._moved = asyncio.Event()
        self._rebuilding: set[str] = set()
        self._one_rebuild = asyncio.Lock()
        self._following: Loop | None = None

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._database)
        connection.execute("PRAGMA journal_mode = WAL")
        # Lost at a power cut are at most views of events that the log still has: they are folded again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")  # an erased person must not live on in free pages
        connection.executescript(_STATE)
        return connection

    async def start(self) -> None:
        """Raises LogCorrupt when a view has seen events that the log does not have."""
        head = self._log.head
        for view in self._views.values():
            self._check(view, head)
        await self._catch_up(*self._views.values())
        self._following = self._loops.start("views", self._follow, needed=True, on_death=lambda _: self._wake())

    def _check(self, view: _View, head: int) -> None:
        row = self._connection.execute("SELECT hash FROM view WHERE name = ?", (view.projection.name,)).fetchone()
        if view.position > head:
            raise LogCorrupt(
                f"view {view.projection.name} has seen position {view.position}, the log ends at {head}: events "
                f"are missing, or {self._database} belongs to another log (then delete it)"
            )
        if row is not None and bytes(row[0]) != self._log.previous_hash(view.position + 1):
            log.warning("view %s was made from another history; it is rebuilt", view.projection.name)
            view.reset()

    async def close(self) -> None:
        if self._following is not None:
            await self._following.close()
            self._wake()  # none of those who wait must do so for ever
        with self._lock:
            self._connection.close()

    @property
    def failure(self) -> str | None:
        """Why the views are not kept just now, or None."""
        return self._following.trouble if self._following is not None else None

    async def wait(self, position: int) -> None:
        while any(view.position < position for view in self._views.values()):
            if self.failure is not None:
                raise LogUnavailable(self.failure)
            await self._moved.wait()

    def positions(self) -> Mapping[str, int]:
        return {name: view.position for name, view in self._views.items()}

    async def get(self, projection: Projection[S], key: str) -> S | None:
        with self._lock:
            row: S | None = self._views[projection.name].get(key, self._connection)
            return row

    async def page(
        self,
        projection: Projection[S],
        *,
        limit: int,
        after: str = "",
        where: Mapping[str, Any] | None = None,
        newest_first: bool = False,
    ) -> Page:
        view = self._views[projection.name]

        def read() -> Page:
            with self._lock:
                return view.page(self._connection, limit, after, where or {}, newest_first)

        return await asyncio.to_thread(read)

    async def counts(
        self, projection: Projection[Any], columns: Sequence[str], where: Mapping[str, Sequence[str]]
    ) -> Mapping[tuple[Any, ...], int]:
        view = self._views[projection.name]

        def read() -> dict[tuple[Any, ...], int]:
            with self._lock:
                return view.counts(self._connection, columns, where)

        return await asyncio.to_thread(read)

    # --- for the views of the past -------------------------------------------------------------------
    def at(self, position: int) -> PastViews:
        return PastViews(self, self._log, self._folds, position)

    async def keys(self, projection: Projection[Any], after: str, limit: int, *, newest_first: bool) -> Sequence[str]:
        view = self._views[projection.name]

        def read() -> list[str]:
            with self._lock:
                return view.keys(self._connection, after, limit, newest_first)

        return await asyncio.to_thread(read)

    async def snapshot(self, projection: Projection[Any], position: int) -> tuple[int, dict[str, Any]]:
        view = self._views[projection.name]

        def read() -> tuple[int, dict[str, Any]]:
            with self._lock:
                return view.snapshot(self._connection, position)

        return await asyncio.to_thread(read)

    async def rebuild(self, name: str) -> int:
        view = self._views.get(name)
        if view is None:
            raise NotFound(f"no view {name}; there are {', '.join(sorted(self._views))}")
        await self._check_archive()
        if name in self._rebuilding:
            raise Conflict(f"view {name} is being rebuilt already")
        await self._rebuild(view)
        return view.position

    async def _check_archive(self) -> None:
        """Raises ArchiveUnreadable, before a view is emptied that could not be made again."""
        position, end = 0, self._log.first - 1
        while position < end:
            events = await self._log.read(position, min(REBUILD_BATCH, end - position))
            position = events[-1].position

    async def _rebuild(self, *views: _View) -> None:
        """After one that began earlier: that has read older events, which may be erased meanwhile."""
        names = {view.projection.name for view in views}
        async with self._one_rebuild:
            self._rebuilding |= names
            try:
                for view in views:
                    await asyncio.to_thread(self._reset, view)
                await self._catch_up(*views)
            finally:
                # No await since the last look at the head: the live task goes on exactly behind it.
                self._rebuilding -= names
        self._wake()

    async def renew(self) -> None:
        await self.wait(self._log.head)  # what is folded already was read before; nothing older comes after
        await self._check_archive()
        try:
            await self._rebuild(*self._views.values())
            self._folds.clear()
            await self._empty_journal()
        except sqlite3.Error as error:
            raise LogUnavailable(f"{self._database} can't be written: {error}") from error

    async def _empty_journal(self) -> None:
        """Dropped tables were overwritten in the database (secure_delete); the write-ahead log has older pages. Raises
        LogUnavailable while another process reads them."""
        deadline = time.monotonic() + TRUNCATE_SECONDS
        while await asyncio.to_thread(self._journal_is_held):
            if time.monotonic() > deadline:
                raise LogUnavailable(
                    f"{self._database.name}-wal has older rows, and another program reads them: try again"
                )
            await asyncio.sleep(BUSY_SECONDS)

    def _journal_is_held(self) -> bool:
        """Tries once, without waiting: those who read rows wait for the lock."""
        with self._lock:
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                return bool(self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            finally:
                self._connection.execute("PRAGMA busy_timeout = 5000")

    def _wake(self) -> None:
        """Those who wait look again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _reset(self, view: _View) -> None:
        with self._lock:
            view.reset()

    async def _catch_up(self, *views: _View) -> None:
        """All of them from one reading of the log; those that are ahead leave alone what they have seen."""
        while (reached := min((view.position for view in views), default=self._log.head)) < self._log.head:
            events = await self._log.read(reached, REBUILD_BATCH)
            await asyncio.to_thread(self._fold, views, events)

    async def _follow(self) -> None:
        """Live: each batch goes into all views in one transaction."""
        start = min((view.position for view in self._views.values()), default=0)
        async with contextlib.aclosing(self._log.subscribe(start)) as batches:
            async for events in batches:
                live = [view for name, view in self._views.items() if name not in self._rebuilding]
                for view in live:
                    if view.position < events[0].position - 1:  # its rebuilding was broken off
                        await self._catch_up(view)
                await asyncio.to_thread(self._fold, live, events)
                self._wake()

    def _fold(self, views: Sequence[_View], events: Sequence[Recorded]) -> None:
        with self._lock:
            before = [view.position for view in views]
            try:
                self._connection.execute("BEGIN")
                for view in views:
                    view.fold(events)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                for view, position in zip(views, before, strict=True):
                    view.position = position
                raise
