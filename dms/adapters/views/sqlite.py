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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from dms.adapters.views.database import (
    Damaged,
    forget_aside,
    forget_beside,
    identity,
    is_of_the_value,
    meaning,
    open_database,
    set_aside,
)
from dms.adapters.views.past import FOLDS_KEPT, Folds, PastViews
from dms.application.loops import Loop, Loops, Patience
from dms.application.ports import EventLog
from dms.application.tasks import cancelled
from dms.application.wakeup import Wakeup
from dms.domain.event import Recorded
from dms.errors import Conflict, InvalidInput, LogCorrupt, LogUnavailable, NotFound
from dms.recent import Recent
from projections.base import LeftOut, Page, Projection

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
log = logging.getLogger(__name__)

REBUILD_BATCH = 5000
BUSY_SECONDS = 0.1
TRUNCATE_SECONDS = 10.0  # readers may hold the write-ahead log for a moment
SNAPSHOT_EVENTS = 20_000  # between two snapshots of a view whose past can't be folded row by row
SNAPSHOTS_KEPT = 64  # of one view; beyond it every other one goes
PATIENCE = Patience(longest=15.0, steady_seconds=10.0)


class _View:
    """One projection's table. The rows of a batch are held in memory until it is written."""

    def __init__(self, projection: Projection[Any]) -> None:
        self.projection = projection
        self.position = 0
        self.left_out: LeftOut | None = None
        self._connection: sqlite3.Connection
        self._encode = msgspec.json.Encoder().encode
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(projection.row_type)
        names = list(projection.columns)
        marks = ",".join("?" * (2 + len(names)))
        self._upsert = f"INSERT OR REPLACE INTO view_{projection.name} VALUES ({marks})"
        self._select = f"SELECT body FROM view_{projection.name} WHERE key = ?"
        self._delete = f"DELETE FROM view_{projection.name} WHERE key = ?"

    def open(self, connection: sqlite3.Connection) -> None:
        """Makes the table, or empties it when the fold has changed since."""
        self._connection = connection
        name, version = self.projection.name, self.projection.version
        row = connection.execute("SELECT version, position FROM view WHERE name = ?", (name,)).fetchone()
        if row is None or row[0] != version or not isinstance(row[1], int) or row[1] < 0:
            self.reset()
            return
        self.position = row[1]
        found = connection.execute("SELECT position, topic, error, events FROM left_out WHERE name = ?", (name,))
        row = found.fetchone()
        self.left_out = None if row is None else LeftOut(*row)

    def reset(self) -> None:
        name = self.projection.name
        columns = "".join(f", {column} {kind}" for column, kind in self.projection.columns.items())
        indexes = "".join(f"CREATE INDEX view_{name}_{c} ON view_{name} ({c}, key);" for c in self.projection.columns)
        self._connection.executescript(
            f"BEGIN; DROP TABLE IF EXISTS view_{name};"
            f"CREATE TABLE view_{name} (key TEXT PRIMARY KEY, body BLOB NOT NULL{columns}) WITHOUT ROWID;"
            f"{indexes} DELETE FROM view WHERE name = '{name}'; DELETE FROM snapshot WHERE name = '{name}';"
            f"DELETE FROM left_out WHERE name = '{name}'; COMMIT;"
        )
        self.position, self.left_out = 0, None

    def fold(self, events: Iterable[Recorded]) -> None:
        """Inside a transaction of the caller's: folds the events that follow on the position and writes the rows that
        changed. Events that do not follow on it are left alone: the view was emptied since they were read. An event
        that can't be folded or stored is left out, and the row stays as it was: one must not end the view."""
        fresh: list[Recorded] = []
        for recorded in events:
            if recorded.position == self.position + len(fresh) + 1:
                fresh.append(recorded)
        if not fresh:
            return
        if not self._all_of(fresh):
            for recorded in fresh:
                self._all_of([recorded])
        self._reach(fresh[-1])

    def _all_of(self, events: Sequence[Recorded]) -> bool:
        """Folds them all, or none: False when that is not possible."""
        self._connection.execute("SAVEPOINT fold")
        done = True
        try:
            rows: dict[str, Any] = {}
            for recorded in events:
                key = self.projection.key(recorded)
                if key is not None:
                    before = rows[key] if key in rows else self.get(key, self._connection)
                    rows[key] = self.projection.apply(before, recorded)
            self._write(rows)
        except Exception as error:
            if isinstance(error, LogUnavailable) or (isinstance(error, sqlite3.Error) and not is_of_the_value(error)):
                raise  # of the file, not of an event
            self._connection.execute("ROLLBACK TO fold")
            done = False
            if len(events) == 1:
                self._leave_out(events[0], error)
        self._connection.execute("RELEASE fold")
        return done

    def _leave_out(self, recorded: Recorded, error: Exception) -> None:
        name, before = self.projection.name, self.left_out
        self.left_out = (
            LeftOut(recorded.position, recorded.topic, type(error).__name__, 1)
            if before is None
            else structs.replace(before, events=before.events + 1)
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO left_out VALUES (?, ?, ?, ?, ?)", (name, *structs.astuple(self.left_out))
        )
        if str(self.left_out.events).strip("0") != "1":
            return  # the first is told, and then the 10th, the 100th, ...
        log.error(
            "view %s can't take in position %d (%s): %s; what it changes there stays as it was, all else goes on",
            name, recorded.position, recorded.topic, type(error).__name__,
            exc_info=error, extra={"action": "view_left_out", "view": name},
        )  # fmt: skip

    def _reach(self, last: Recorded) -> None:
        reached = last.position
        self._connection.execute(
            "INSERT OR REPLACE INTO view VALUES (?, ?, ?, ?)",
            (self.projection.name, self.projection.version, reached, last.hash),
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
        try:
            bodies = msgspec.json.decode(zlib.decompress(found[1]), type=dict[str, msgspec.Raw])
            return found[0], {key: self._decoder.decode(body) for key, body in bodies.items()}
        except (zlib.error, msgspec.DecodeError, TypeError) as error:
            raise Damaged(f"a snapshot of the view {self.projection.name} can't be read: {error}") from error

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
        try:
            return None if row is None else self._decoder.decode(row[0])
        except (msgspec.DecodeError, TypeError) as error:
            raise Damaged(f"row {key} of the view {self.projection.name} can't be read: {error}") from error

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
        try:
            rows = [self._decoder.decode(body) for _, body in found[:limit]]
        except (msgspec.DecodeError, TypeError) as error:
            raise Damaged(f"a row of the view {self.projection.name} can't be read: {error}") from error
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
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # the one that is open
        self._views = {p.name: _View(p) for p in projections}
        self._folds: Folds = Recent(FOLDS_KEPT)
        self._moved = Wakeup()
        self._damage = asyncio.Event()  # somebody met it
        self._rebuilding: set[str] = set()
        self._one_rebuild = asyncio.Lock()
        self._begun: asyncio.Future[None] | None = None
        self._following: Loop | None = None
        self._closed = False

    async def start(self) -> None:
        """Returns once they have caught up; waits while the file can't be used. Raises LogCorrupt when the log can't be
        read, or a view has seen events that the log does not have."""
        self._begun = asyncio.get_running_loop().create_future()
        self._following = self._loops.start(
            "views", self._keep, needed=True, on_death=lambda _: self._wake(), patience=PATIENCE
        )
        await self._begun

    async def close(self) -> None:
        self._closed = True
        if self._following is not None:
            await self._following.close()
        self._wake()  # none of those who wait must do so for ever
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @property
    def failure(self) -> str | None:
        """Why the views are not kept just now, or None."""
        return self._following.trouble if self._following is not None else None

    async def wait(self, position: int) -> None:
        while any(view.position < position for view in self._views.values()):
            if self._closed or self.failure is not None:
                raise LogUnavailable(f"the views are not kept: {self.failure or 'the DMS is stopping'}")
            await self._moved.wait()

    # --- the file ------------------------------------------------------------------------------------
    async def _keep(self) -> None:
        """Opens the file where that is needed, catches up, and goes on with the log."""
        try:
            try:
                if self._connection is None or self._file != identity(self._database):
                    await self._open()
                await self._catch_up(*self._views.values())
                self._settle(None)
                self._wake()
                await self._follow_until_damaged()
            except Damaged as error:
                raise LogUnavailable(await self._set_aside(error)) from error
        except LogCorrupt as error:
            self._settle(error)
            raise

    def _settle(self, error: LogCorrupt | None) -> None:
        """Tells who started us."""
        if self._begun is None or self._begun.done():
            return
        if error is None:
            self._begun.set_result(None)
        else:
            self._begun.set_exception(error)

    async def _open(self) -> None:
        if self._file is not None:  # the one that was open is gone, and what it held can only come from the log
            log.error("%s was removed or replaced; the views are made anew", self._database)
            await self._check_archive()
            with self._lock:
                self._disconnect()
            await asyncio.to_thread(forget_beside, self._database)
        connection = await asyncio.to_thread(open_database, self._database)
        with self._lock:
            self._connection = connection
            self._damage.clear()
        again, self._file = self._file is not None, identity(self._database)
        await asyncio.to_thread(self._use, self._open_views)
        for view in self._views.values():
            self._check(view, again=again)
        self._folds.clear()

    def _open_views(self, connection: sqlite3.Connection) -> None:
        for view in self._views.values():
            view.open(connection)

    def _check(self, view: _View, *, again: bool) -> None:
        """again: not at the start, when it is the log that may be too short."""
        name, head = view.projection.name, self._log.head
        if view.position > head:
            told = f"view {name} has seen position {view.position}, the log ends at {head}"
            if again:
                raise Damaged(f"{self._database} is of another log: {told}")
            raise LogCorrupt(f"{told}: events are missing, or {self._database} belongs to another log (then delete it)")
        found = self._use(lambda c: c.execute("SELECT hash FROM view WHERE name = ?", (name,)).fetchone())
        if found is not None and found[0] != self._log.previous_hash(view.position + 1):
            log.warning("view %s was made from another history; it is rebuilt", name)
            self._reset(view)

    async def _set_aside(self, error: Damaged) -> str:
        """What was done, in words. Raises ArchiveUnreadable, while nothing could be made anew: then the file stays."""
        await self._check_archive()
        with self._lock:
            self._disconnect()
        self._file = None
        aside = await asyncio.to_thread(set_aside, self._database)
        return f"{error}; it is set aside as {aside}, and the views are made anew from the log"

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One user at a time; blocking. Raises LogUnavailable; Damaged, and then the file is made anew."""
        with self._using() as connection:
            return work(connection)

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                raise LogUnavailable(f"the views are not kept: {self.failure or 'they are being opened'}")
            try:
                yield self._connection
            except Damaged as error:
                raise Damaged(f"{self._database} does not hold what it should: {error}") from error
            except sqlite3.Error as error:
                if is_of_the_value(error):
                    raise
                raise meaning(error, self._database) from error

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """For those who look something up: damage that they meet is mended at once."""
        try:
            return await asyncio.to_thread(self._use, work)
        except Damaged:
            self._damage.set()
            raise

    def positions(self) -> Mapping[str, int]:
        return {name: view.position for name, view in self._views.items()}

    def left_out(self) -> Mapping[str, LeftOut]:
        return {name: view.left_out for name, view in self._views.items() if view.left_out is not None}

    async def get(self, projection: Projection[S], key: str) -> S | None:
        view = self._views[projection.name]
        try:
            row: S | None = self._use(lambda connection: view.get(key, connection))
        except Damaged:
            self._damage.set()
            raise
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
        return await self._read(lambda connection: view.page(connection, limit, after, where or {}, newest_first))

    async def counts(
        self, projection: Projection[Any], columns: Sequence[str], where: Mapping[str, Sequence[str]]
    ) -> Mapping[tuple[Any, ...], int]:
        view = self._views[projection.name]
        return await self._read(lambda connection: view.counts(connection, columns, where))

    # --- for the views of the past -------------------------------------------------------------------
    def at(self, position: int) -> PastViews:
        return PastViews(self, self._log, self._folds, position)

    async def keys(self, projection: Projection[Any], after: str, limit: int, *, newest_first: bool) -> Sequence[str]:
        view = self._views[projection.name]
        return await self._read(lambda connection: view.keys(connection, after, limit, newest_first))

    async def snapshot(self, projection: Projection[Any], position: int) -> tuple[int, dict[str, Any]]:
        view = self._views[projection.name]
        return await self._read(lambda connection: view.snapshot(connection, position))

    # --- made anew -----------------------------------------------------------------------------------
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
        await self._rebuild(*self._views.values())
        self._folds.clear()
        await asyncio.to_thread(forget_aside, self._database)  # an erased person must not live on in them
        await self._empty_journal()

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
        with self._using() as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            finally:
                connection.execute("PRAGMA busy_timeout = 5000")

    def _wake(self) -> None:
        """Those who wait look again."""
        self._moved.wake()

    def _reset(self, view: _View) -> None:
        with self._using():
            view.reset()

    async def _catch_up(self, *views: _View) -> None:
        """All of them from one reading of the log; those that are ahead leave alone what they have seen."""
        while (reached := min((view.position for view in views), default=self._log.head)) < self._log.head:
            events = await self._log.read(reached, REBUILD_BATCH)
            await asyncio.to_thread(self._fold, views, events)

    async def _follow_until_damaged(self) -> None:
        following, damaged = asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._damage.wait())
        try:
            await asyncio.wait({following, damaged}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            await cancelled(following)
            damaged.cancel()
        raise Damaged(f"{self._database} is damaged")

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
                if self._following is not None:
                    self._following.well()
                self._wake()

    def _fold(self, views: Sequence[_View], events: Sequence[Recorded]) -> None:
        if self._file != identity(self._database):
            raise LogUnavailable(f"{self._database} was removed or replaced")
        with self._using() as connection:
            before = [(view.position, view.left_out) for view in views]
            try:
                connection.execute("BEGIN")
                for view in views:
                    view.fold(events)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                for view, was in zip(views, before, strict=True):
                    view.position, view.left_out = was
                raise
