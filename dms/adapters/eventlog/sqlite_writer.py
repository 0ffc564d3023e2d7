"""The writing side of a log in SQLite: events in two steps, for group commit, and what is kept about the log."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import astuple

from dms.adapters.eventlog import sqlite_keys
from dms.adapters.eventlog.envelope import Draft, Place, chained
from dms.adapters.eventlog.keyring import Keyring, KeyRow
from dms.adapters.eventlog.recorder import MovedRows
from dms.adapters.eventlog.segments import Block, Segment
from dms.adapters.eventlog.sqlite_archive import (
    DELETE_MOVED,
    INSERT_BLOCK,
    INSERT_SEGMENT,
    NOTE_MOVED,
    SQLiteArchiveIndex,
)
from dms.adapters.eventlog.sqlite_errors import errors_of_the_library, is_busy
from dms.adapters.eventlog.sqlite_names import NewNames
from dms.database import BUSY_SECONDS

_INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PROBE_BYTES = 65_536
BUSY_PAUSE_SECONDS = 0.05


@errors_of_the_library
class SQLiteWriter:
    """There is one of a log, in one process. For any thread. SQLite itself waits for no other program here: that would
    hold up the loop."""

    def __init__(
        self, connection: sqlite3.Connection, keys: Keyring, archived: SQLiteArchiveIndex, head: Place
    ) -> None:
        """connection: of its own."""
        self.connection, self._keys = connection, keys
        connection.execute("PRAGMA busy_timeout = 0")
        self.head = self._next_head = head
        self._names = NewNames(connection, archived)
        self._new_keys: list[KeyRow] = []  # in the open transaction
        self._lock = threading.Lock()  # taken at insert, freed after commit

    def insert(self, drafts: Sequence[Draft]) -> list[Place]:
        """See LogRecorder.insert."""
        self._lock.acquire()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._names.begin()
            places = chained(self.head, drafts)
            rows = [self._row(draft, place) for draft, place in zip(drafts, places, strict=True)]
            self._names.store()
            self.connection.executemany(_INSERT, rows)
            self._new_keys = self._keys.unwritten()
            if self._new_keys:
                self.connection.executemany(sqlite_keys.INSERT, self._new_keys)
            self._next_head = places[-1] if places else self.head
        except BaseException:
            self.rollback()
            raise
        return places

    def _row(self, draft: Draft, place: Place) -> tuple[object, ...]:
        stream, topic = self._names.of(draft)
        return (
            place.position, stream, draft.originator_version, topic, draft.time, draft.id, draft.correlation,
            draft.causation, draft.traceparent, draft.state, place.hash,
        )  # fmt: skip

    def commit(self) -> float:
        """See LogRecorder.commit: one fsync."""
        started = time.perf_counter()
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self.rollback()
            raise
        self.head = self._next_head
        self._keys.written(self._new_keys)
        self._lock.release()
        return time.perf_counter() - started

    def rollback(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self._names.forget()
        finally:
            self._lock.release()

    @contextmanager
    def _between_events(self) -> Iterator[sqlite3.Connection]:
        """A short transaction beside those that append. Raises sqlite3.Error, rolled back."""
        self._begin()
        try:
            yield self.connection
            self.connection.execute("COMMIT")
            self._names.look_again()
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        finally:
            self._lock.release()

    def _begin(self) -> None:
        """Waits for another program that holds the database, but not with the lock."""
        give_up_at = time.monotonic() + BUSY_SECONDS
        while True:
            self._lock.acquire()
            try:
                self.connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                self._lock.release()
                if not is_busy(error) or time.monotonic() >= give_up_at:
                    raise
            else:
                return
            time.sleep(BUSY_PAUSE_SECONDS)

    def set_note(self, name: str, value: bytes) -> None:
        """Durable when it returns."""
        with self._between_events() as connection:
            connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    def probe(self) -> None:
        """See LogRecorder.probe."""
        for content in (bytes(PROBE_BYTES), b""):
            self.set_note("probe", content)

    def note_archived(self, segment: Segment, blocks: Sequence[Block]) -> None:
        """See LogRecorder.note_archived."""
        with self._between_events() as connection:
            connection.execute(INSERT_SEGMENT, astuple(segment))
            connection.executemany(INSERT_BLOCK, map(astuple, blocks))

    def drop_archived(self, parts: Sequence[MovedRows]) -> None:
        """See LogRecorder.drop_archived."""
        with self._between_events() as connection:
            for part in parts:
                connection.execute(NOTE_MOVED, (part.stream, part.version))
                connection.execute(DELETE_MOVED, (part.stream, part.version))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is written meanwhile."""
        with self._lock:
            yield
