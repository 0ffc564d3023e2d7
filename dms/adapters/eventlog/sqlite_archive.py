"""The index of the archive as SQLite keeps it: which positions and streams are in which blocks of the files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection
from typing import Any

import msgspec

from dms.adapters.eventlog.segments import Block, Segment
from dms.adapters.eventlog.sqlite_errors import errors_of_the_library

SCHEMA = """
CREATE TABLE segment (
  first INTEGER PRIMARY KEY,
  last INTEGER NOT NULL,
  file TEXT NOT NULL,
  previous BLOB NOT NULL,
  hash BLOB NOT NULL,
  sha256 BLOB NOT NULL,
  size INTEGER NOT NULL,
  newest INTEGER NOT NULL
);
CREATE TABLE block (
  first INTEGER PRIMARY KEY,
  last INTEGER NOT NULL,
  file TEXT NOT NULL,
  offset INTEGER NOT NULL,
  length INTEGER NOT NULL,
  oldest INTEGER NOT NULL
);
CREATE TABLE archived (
  stream INTEGER NOT NULL,
  block INTEGER NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (stream, block)
) WITHOUT ROWID;
"""
# archived: of streams whose rows left the table, the blocks (by their first position) that hold them, and the
# newest version that left and is in that block.

_VERSIONS = """
SELECT stream.name, archived.version FROM json_each(?) JOIN stream ON stream.name = json_each.value
JOIN archived ON archived.stream = stream.id AND archived.block = ?
"""
_OF_STREAM = """
SELECT block.* FROM stream JOIN archived ON archived.stream = stream.id JOIN block ON block.first = archived.block
WHERE stream.name = ? ORDER BY block.first
"""
_VERSION = "SELECT max(version) FROM archived WHERE stream = "
INSERT_SEGMENT = "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_BLOCK = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?)"
NOTE_MOVED = """
INSERT INTO archived
SELECT stream, (SELECT max(first) FROM block WHERE first <= position), max(version) FROM event
WHERE stream = (SELECT id FROM stream WHERE name = ?) AND version <= ? GROUP BY 1, 2
ON CONFLICT (stream, block) DO UPDATE SET version = max(version, excluded.version)
"""
DELETE_MOVED = "DELETE FROM event WHERE stream = (SELECT id FROM stream WHERE name = ?) AND version <= ?"

_encode = msgspec.json.Encoder().encode


@errors_of_the_library
class SQLiteArchiveIndex:
    """Implements archive_reader.ArchiveIndex. For any thread."""

    def __init__(self, connection: sqlite3.Connection, *, exists: bool) -> None:
        """connection: of its own. exists: the log is of a format that has an archive."""
        self._connection, self._exists = connection, exists
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def last_segment(self) -> Segment | None:
        return self._segment("ORDER BY first DESC LIMIT 1")

    def segments(self, after: int, limit: int) -> list[Segment]:
        rows = self._ask("SELECT * FROM segment WHERE first > ? ORDER BY first LIMIT ?", (after, limit))
        return [Segment(*row) for row in rows]

    def segment_at(self, position: int) -> Segment | None:
        return self._segment("WHERE last >= ? ORDER BY first LIMIT 1", (position,))

    def block_at(self, position: int) -> Block | None:
        found = self._block("WHERE first <= ?", (position,))
        return found if found is not None and found.last >= position else None

    def block_reaching_back_to(self, time: int) -> Block | None:
        return self._block("WHERE oldest <= ?", (time,))

    def blocks_of(self, stream: str) -> list[Block]:
        return [Block(*row) for row in self._ask(_OF_STREAM, (stream,))]

    def version(self, stream: str) -> int:
        return self._version("(SELECT id FROM stream WHERE name = ?)", stream)

    def version_of(self, number: int) -> int:
        """The same of a stream's number in the table."""
        return self._version("?", number)

    def versions(self, streams: Collection[str], block: int) -> dict[str, int]:
        return dict(self._ask(_VERSIONS, (_encode(list(streams)).decode(), block)))

    def beginning_in(self, segment: Segment) -> tuple[int, int]:
        count = "(SELECT count(*) FROM {} WHERE first BETWEEN ?1 AND ?2)"
        sql = f"SELECT {count.format('segment')}, {count.format('block')}"
        ((segments, blocks),) = self._ask(sql, (segment.first, segment.last))
        return segments, blocks

    def _version(self, stream: str, argument: int | str) -> int:
        rows = self._ask(f"{_VERSION}{stream}", (argument,))
        return int(rows[0][0] or 0) if rows else 0

    def _segment(self, which: str, arguments: tuple[int, ...] = ()) -> Segment | None:
        rows = self._ask(f"SELECT * FROM segment {which}", arguments)
        return Segment(*rows[0]) if rows else None

    def _block(self, which: str, arguments: tuple[int, ...]) -> Block | None:
        rows = self._ask(f"SELECT * FROM block {which} ORDER BY first DESC LIMIT 1", arguments)
        return Block(*rows[0]) if rows else None

    def _ask(self, sql: str, arguments: tuple[int | str, ...] = ()) -> list[tuple[Any, ...]]:
        if not self._exists:
            return []
        with self._lock:
            return self._connection.execute(sql, arguments).fetchall()
