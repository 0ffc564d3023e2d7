"""The writing side of a log in SQLite: events in two steps, for group commit, and what is kept about the log."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dms.adapters.eventlog import keyring
from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.envelope import Draft, Stored, chained
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.sqlite_names import NewNames

_INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PROBE_BYTES = 65_536


class SQLiteWriter:
    """There is one of a log, in one process. For any thread."""

    def __init__(
        self, connection: sqlite3.Connection, keys: Keyring, archived: Archived, head: int, head_hash: bytes
    ) -> None:
        """connection: of its own."""
        self.connection, self._keys = connection, keys
        self.head, self.head_hash = head, head_hash
        self._next_head = head, head_hash
        self._names = NewNames(connection, archived)
        self._new_keys: list[keyring.Row] = []  # in the open transaction
        self._lock = threading.Lock()  # taken at insert, freed after commit

    def insert(self, drafts: Sequence[Draft]) -> list[Stored]:
        """See LogRecorder.insert."""
        self._lock.acquire()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._names.begin()
            placed = chained(self.head, self.head_hash, drafts)
            rows = [_row(one, *self._names.of(one)) for one in placed]
            self._names.store()
            self.connection.executemany(_INSERT, rows)
            self._new_keys = self._keys.unwritten()
            if self._new_keys:
                self.connection.executemany(keyring.INSERT, self._new_keys)
            self._next_head = (placed[-1].position, placed[-1].hash) if placed else (self.head, self.head_hash)
        except BaseException:
            self.rollback()
            raise
        return placed

    def commit(self) -> float:
        """See LogRecorder.commit: one fsync. Raises sqlite3.Error."""
        started = time.perf_counter()
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self.rollback()
            raise
        self.head, self.head_hash = self._next_head
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
    def between_events(self) -> Iterator[sqlite3.Connection]:
        """A short transaction beside those that append. Raises sqlite3.Error, rolled back."""
        with self._lock:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            self._names.look_again()

    def set_note(self, name: str, value: bytes) -> None:
        """Durable when it returns. Raises sqlite3.Error."""
        with self.between_events() as connection:
            connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    def probe(self) -> None:
        """Writes and removes about as much as commands do. Raises sqlite3.Error while nothing can be written."""
        for content in (bytes(PROBE_BYTES), b""):
            self.set_note("probe", content)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is written meanwhile."""
        with self._lock:
            yield


def _row(one: Stored, stream: int, topic: int) -> tuple[object, ...]:
    return (
        one.position, stream, one.originator_version, topic, one.time, one.id, one.correlation, one.causation,
        one.traceparent, one.state, one.hash,
    )  # fmt: skip
