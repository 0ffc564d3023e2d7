"""The reading side of a log in SQLite: its rows, and before them what was archived, as one sequence."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.envelope import Place, Stored
from dms.adapters.eventlog.recorder import LeanRow
from dms.adapters.eventlog.sqlite_errors import errors_of_the_library
from dms.adapters.eventlog.sqlite_names import StoredNames
from dms.adapters.eventlog.sqlite_schema import COLUMNS, WITH_KEYS, format_of
from dms.domain.chain import GENESIS, SignedRecord, id_bytes
from dms.errors import ArchiveUnreadable, LogCorrupt

Row = tuple[Any, ...]
STEP = 50_000  # positions that are looked at in one go


@errors_of_the_library
class SQLiteReader:
    """For any thread; sees what any process has committed."""

    def __init__(self, connection: sqlite3.Connection, archived: Archived, database: Path) -> None:
        """connection: of its own. database: for what is said of errors."""
        self.connection, self.archived, self.database = connection, archived, database
        self._names = StoredNames(connection)
        self._lock = threading.Lock()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody reads meanwhile."""
        with self._lock:
            yield

    # --- events --------------------------------------------------------------------------------------
    def read(
        self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "", until: int | None = None
    ) -> list[Stored]:
        """See LogRecorder.read."""
        if stream:
            return self._read_of_stream(stream, after, limit, topics, until)
        found: list[Stored] = []
        while True:
            archived = self.archived.last()
            end = archived if until is None else min(archived, until)
            if after < end:
                found += map(_of_record, self.archived.read(after, limit - len(found), end, topics))
                if len(found) >= limit:
                    return found
                after = archived
            rows = self._rows("position", [], after, limit - len(found), topics, until)
            if self.archived.last() == archived:  # else some of the rows may have gone between the two looks
                return found + rows

    def _read_of_stream(
        self, stream: str, after: int, limit: int, topics: Sequence[str], until: int | None
    ) -> list[Stored]:
        number = self._number_of(stream)
        if number is None:
            return []
        # The index is by version; a stream's positions ascend with it.
        rows = self._rows("version", [number], after, limit, topics, until)

        def wanted(record: SignedRecord) -> bool:
            fits = record.position > after and (until is None or record.position <= until)
            return fits and (not topics or record.topic in topics)

        archived = self.archived.of_stream(stream, wanted)
        return _merged(list(islice(archived, limit)), rows)[:limit]

    def _rows(
        self, order: str, stream: list[int], after: int, limit: int, topics: Sequence[str], until: int | None
    ) -> list[Stored]:
        """Those in the table. stream: its number, or nothing for all."""
        sql, arguments = f"SELECT {COLUMNS} FROM event WHERE position > ?", [after]
        if stream:
            sql, arguments = f"SELECT {COLUMNS} FROM event WHERE stream = ? AND position > ?", [*stream, after]
        with self._lock:
            if topics:
                sql += f" AND topic IN ({self._names.marks(topics)})"
            if until is not None:
                sql, arguments = sql + " AND position <= ?", [*arguments, until]
            rows = self.connection.execute(f"{sql} ORDER BY {order} LIMIT ?", [*arguments, limit]).fetchall()
            return [self._stored(row) for row in rows]

    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        """See LogRecorder.read_stream."""
        with self._lock:
            number = self._names.id_of(stream)
            if number is None:
                return []
            rows = self.connection.execute(
                f"SELECT {COLUMNS} FROM event WHERE stream = ? AND version > ? ORDER BY version",
                (number, after_version),
            ).fetchall()
            found = [self._stored(row) for row in rows]
        if found and found[0].originator_version == after_version + 1:
            return found  # the usual case: versions are gap-free, and the oldest leave the table first
        archived = self.archived.of_stream(stream, lambda record: record.version > after_version)
        return _merged(list(archived), found)

    def _stored(self, row: Row) -> Stored:
        topic, schema_version = self._names.topic(row[3])
        position, stream, version, _, time, event_id, correlation, causation, traceparent, data, link = row
        return Stored(
            self._names.stream(stream), version, topic, data, schema_version, time, event_id, correlation, causation,
            traceparent, position, link,
        )  # fmt: skip

    # --- in bulk -------------------------------------------------------------------------------------
    def lean_rows(
        self, after: int, limit: int, until: int, unread: Collection[int]
    ) -> tuple[list[LeanRow], Mapping[int, tuple[str, str]]]:
        """See LogRecorder.lean_rows."""
        body = f"CASE WHEN topic NOT IN ({','.join(map(str, unread))}) THEN data END" if unread else "data"
        with self._lock:
            rows = self.connection.execute(
                f"SELECT position, stream, topic, time, {body} FROM event WHERE position > ? AND position <= ? "
                "ORDER BY position LIMIT ?",
                (after, until, limit),
            ).fetchall()
            return rows, self._names.places({row[1] for row in rows})

    def topics(self) -> dict[int, tuple[str, int]]:
        """See LogRecorder.topics."""
        with self._lock:
            return self._names.topics()

    # --- as they stand -------------------------------------------------------------------------------
    def unchecked(self, after: int, until: int, limit: int) -> list[Stored]:
        """See LogRecorder.unchecked: SQLite stores any type in any column."""
        sql = f"SELECT {COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        with self._lock:
            rows = self.connection.execute(sql, (after, until, limit)).fetchall()
            return [self._named(row) for row in rows]

    def key_rows(self) -> list[Row]:
        """See LogRecorder.key_rows."""
        return self.ask("SELECT * FROM seal_key ORDER BY number") if self.format() >= WITH_KEYS else []

    def structure_faults(self) -> list[str]:
        """See LogRecorder.structure_faults."""
        found = [str(text) for (text,) in self.ask("PRAGMA integrity_check(5)")]
        return [] if found == ["ok"] else found

    def _named(self, row: Row) -> Stored:
        try:
            return self._stored(row)
        except KeyError as error:
            raise LogCorrupt(f"position {row[0]} was changed: there is no topic {row[3]!r}") from error

    # --- places --------------------------------------------------------------------------------------
    @property
    def first(self) -> int:
        """The position behind the archived ones."""
        return self.archived.last() + 1

    def end(self) -> Place:
        """Of the newest event, or of what stands before the first. Raises LogCorrupt."""
        rows = self.ask("SELECT position, hash FROM event ORDER BY position DESC LIMIT 1")
        head = Place(int(rows[0][0]), self._hash(*rows[0])) if rows else Place(0, GENESIS)
        end = self.archived.index.last_segment()
        return head if end is None or end.last <= head.position else Place(end.last, end.hash)

    def newest(self) -> int:
        """The newest position; 0 for none."""
        ((found,),) = self.ask("SELECT max(position) FROM event")
        return max(found or 0, self.archived.last())

    def position_at(self, time: int) -> int:
        """The newest position whose event is not younger than that (Unix µs). Looks from the newest back, since a
        clock that was set back lets times and positions disagree; and in steps, between which others may read."""
        end, archived = self.newest(), self.archived.last()
        while end > archived:
            rows = self.ask(
                "SELECT position FROM event WHERE position > ? AND position <= ? AND time <= ? "
                "ORDER BY position DESC LIMIT 1",
                (max(end - STEP, archived), end, time),
            )
            if rows:
                return int(rows[0][0])
            end -= STEP
        return self.archived.newest_at(time)

    def time_at(self, position: int) -> int:
        """See LogRecorder.time_at."""
        rows = self.ask("SELECT time FROM event WHERE position = ?", (position,))
        if rows:
            return int(rows[0][0])
        block = self.archived.index.block_at(position)
        if block is None:
            raise LogCorrupt(f"{self.database}: no event at position {position}")
        return block.oldest

    def older_until(self, time: int, most: int) -> int:
        """See LogRecorder.older_until."""
        first = self.first
        rows = self.ask(
            "SELECT position FROM event WHERE position >= ? AND position < ? AND time > ? ORDER BY position LIMIT 1",
            (first, first + most, time),
        )
        end = int(rows[0][0]) - 1 if rows else min(self.newest(), first + most - 1)
        return end if end >= first else 0

    def streams_between(self, after: int, until: int, limit: int) -> tuple[list[str], int]:
        """See LogRecorder.streams_between."""
        sql = "SELECT position, stream FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        rows = self.ask(sql, (after, until, limit))
        with self._lock:
            names = [self._names.stream(number) for number in dict.fromkeys(number for _, number in rows)]
        return names, int(rows[-1][0]) if len(rows) == limit else until

    def streams(self, kind: str) -> list[str]:
        """See LogRecorder.streams."""
        sql = "SELECT name FROM stream WHERE name >= ? AND name < ? ORDER BY id"
        return [name for (name,) in self.ask(sql, (f"{kind}-", f"{kind}."))]

    def previous_hash(self, position: int) -> bytes:
        """See LogRecorder.previous_hash."""
        if position <= 1:
            return GENESIS
        rows = self.ask("SELECT hash FROM event WHERE position = ?", (position - 1,))
        if rows:
            return self._hash(position - 1, rows[0][0])
        segment = self.archived.index.segment_at(position - 1)
        if segment is not None and segment.last == position - 1:
            return self._hash(position - 1, segment.hash)  # what goes on behind a file does not need that file
        record = self.archived.at(position - 1)
        if record is None:
            raise LogCorrupt(f"{self.database}: no event at position {position - 1}")
        return bytes.fromhex(record.hash)

    def _hash(self, position: int, stored: object) -> bytes:
        """SQLite stores any type in any column."""
        if not isinstance(stored, bytes):
            raise LogCorrupt(f"{self.database}: position {position} was changed: its hash is {type(stored).__name__}")
        return stored

    # --- what is kept about the log ------------------------------------------------------------------
    def note(self, name: str) -> bytes | None:
        """None when there is none. Raises LogCorrupt for one that nobody of us wrote."""
        if not self.ask("SELECT 1 FROM sqlite_schema WHERE name = 'note'"):
            return None  # a log that an older program wrote, opened to be read
        rows = self.ask("SELECT value FROM note WHERE name = ?", (name,))
        if rows and not isinstance(rows[0][0], bytes):
            raise LogCorrupt(f"{self.database}: the note {name} was changed: it is {type(rows[0][0]).__name__}")
        return rows[0][0] if rows else None

    def format(self) -> int:
        with self._lock:
            return format_of(self.connection)

    def ask(self, sql: str, arguments: tuple[object, ...] = ()) -> list[Row]:
        with self._lock:
            return self.connection.execute(sql, arguments).fetchall()

    def _number_of(self, stream: str) -> int | None:
        with self._lock:
            return self._names.id_of(stream)


def _merged(archived: Sequence[SignedRecord], rows: list[Stored]) -> list[Stored]:
    """Of one stream: what was archived, and behind it what stands in the table. Some may be in both."""
    if not archived:
        return rows
    return [_of_record(one) for one in archived if not rows or one.position < rows[0].position] + rows


def _of_record(record: SignedRecord) -> Stored:
    """Raises ArchiveUnreadable."""
    try:
        return Stored(
            record.stream, record.version, record.topic, record.data.encode(), record.schema_version, record.time,
            id_bytes(record.event_id), id_bytes(record.correlation_id), id_bytes(record.causation_id),
            record.traceparent, record.position, bytes.fromhex(record.hash),
        )  # fmt: skip
    except (ValueError, UnicodeError) as error:
        raise ArchiveUnreadable(f"position {record.position} of the archive was changed: {error}") from error
