"""A connection that a log in SQLite is read with: one user at a time, and the names that its rows have as numbers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dms.adapters.eventlog.envelope import Stored
from dms.adapters.eventlog.sqlite_names import StoredNames

Row = tuple[Any, ...]


class Reading:
    """For any thread: `turn` and `ask` wait until it is free; the others are for who has the turn."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """connection: of its own."""
        self.connection = connection
        self._names, self._lock = StoredNames(connection), threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[StoredNames]:
        with self._lock:
            yield self._names

    def ask(self, sql: str, arguments: tuple[object, ...] = ()) -> list[Row]:
        with self._lock:
            return self.rows(sql, arguments)

    def rows(self, sql: str, arguments: tuple[object, ...]) -> list[Row]:
        return self.connection.execute(sql, arguments).fetchall()

    def stored(self, sql: str, arguments: tuple[object, ...]) -> list[Stored]:
        """sql: of all columns of events."""
        return [self.of_row(row) for row in self.rows(sql, arguments)]

    def of_row(self, row: Row) -> Stored:
        """Raises KeyError for a topic that there is not."""
        topic, schema_version = self._names.topic(row[3])
        position, stream, version, _, time, event_id, correlation, causation, traceparent, data, link = row
        return Stored(
            self._names.stream(stream), version, topic, data, schema_version, time, event_id, correlation, causation,
            traceparent, position, link,
        )  # fmt: skip
