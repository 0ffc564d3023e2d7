"""The reading side of a log in SQLite: its rows, and before them what was archived, as one sequence."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.envelope import Place, Stored
from dms.adapters.eventlog.recorder import LeanRow
from dms.adapters.eventlog.sqlite_errors import errors_of_the_library
from dms.adapters.eventlog.sqlite_reading import Reading, Row
from dms.adapters.eventlog.sqlite_schema import COLUMNS, WITH_KEYS, format_of
from dms.domain.chain import GENESIS, SignedRecord, id_bytes
from dms.errors import ArchiveUnreadable, LogCorrupt

STEP = 50_000  # positions that are looked at in one go: some 60 ms where topics are sought


@errors_of_the_library
class SQLiteReader:
    """For any thread; sees what any process has committed. What is found by its place or its stream is read on a
    connection of its own, so that the loop, which asks for nothing else, never waits for what looks through the log."""

    def __init__(
        self, at_once: sqlite3.Connection, scans: sqlite3.Connection, archived: Archived, database: Path
    ) -> None:
        """Both connections: of its own. database: for what is said of errors."""
        self._at_once, self._scans = Reading(at_once), Reading(scans)
        self.archived, self.database = archived, database

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody reads meanwhile."""
        with self._scans.turn(), self._at_once.turn():
            yield

    def interrupt(self) -> None:
        """See LogRecorder.interrupt."""
        for reading in (self._at_once, self._scans):
            with suppress(sqlite3.ProgrammingError):  # it is closed already
                reading.connection.interrupt()

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
            rows = self._rows(after, limit - len(found), topics, until)
            if self.archived.last() == archived:  # else some of the rows may have gone between the two looks
                return found + rows

    def _read_of_stream(
        self, stream: str, after: int, limit: int, topics: Sequence[str], until: int | None
    ) -> list[Stored]:
        # The index is by version; a stream's positions ascend with it.
        with self._scans.turn() as names:
            number = names.id_of(stream)
            if number is None:
                return []
            sought, arguments = names.sought(topics, until)
            rows = self._scans.stored(
                f"SELECT {COLUMNS} FROM event WHERE stream = ? AND position > ?{sought} ORDER BY version LIMIT ?",
                (number, after, *arguments, limit),
            )

        def wanted(record: SignedRecord) -> bool:
            fits = record.position > after and (until is None or record.position <= until)
            return fits and (not topics or record.topic in topics)

        archived = self.archived.of_stream(stream, wanted)
        return _merged(list(islice(archived, limit)), rows)[:limit]

    def _rows(self, after: int, limit: int, topics: Sequence[str], until: int | None) -> list[Stored]:
        """Those in the table; in steps, between which others may read: there is no index of topics."""
        found: list[Stored] = []
        end = self.newest() if until is None else min(until, self.newest())
        while after < end and len(found) < limit:
            step = min(after + STEP, end)
            with self._scans.turn() as names:
                sought, arguments = names.sought(topics, step)
                found += self._scans.stored(
                    f"SELECT {COLUMNS} FROM event WHERE position > ?{sought} ORDER BY position LIMIT ?",
                    (after, *arguments, limit - len(found)),
                )
            after = step
        return found

    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        """See LogRecorder.read_stream."""
        with self._at_once.turn() as names:
            number = names.id_of(stream)
            if number is None:
                return []
            found = self._at_once.stored(
                f"SELECT {COLUMNS} FROM event WHERE stream = ? AND version > ? ORDER BY version",
                (number, after_version),
            )
        if found and found[0].originator_version == after_version + 1:
            return found  # the usual case: versions are gap-free, and the oldest leave the table first
        archived = self.archived.of_stream(stream, lambda record: record.version > after_version)
        return _merged(list(archived), found)

    def newest_of(self, stream: str, topics: Sequence[str]) -> Stored | None:
        """See LogRecorder.newest_of."""
        with self._at_once.turn() as names:
            sought, _ = names.sought(topics, None)
            rows = self._at_once.stored(
                f"SELECT {COLUMNS} FROM event WHERE stream = ?{sought} ORDER BY version DESC LIMIT 1",
                (names.id_of(stream),),
            )
            return rows[0] if rows else None

    # --- in bulk -------------------------------------------------------------------------------------
    def lean_rows(
        self, after: int, limit: int, until: int, unread: Collection[int]
    ) -> tuple[list[LeanRow], Mapping[int, tuple[str, str]]]:
        """See LogRecorder.lean_rows."""
        body = f"CASE WHEN topic NOT IN ({','.join(map(str, unread))}) THEN data END" if unread else "data"
        with self._scans.turn() as names:
            rows = self._scans.rows(
                f"SELECT position, stream, topic, time, {body} FROM event WHERE position > ? AND position <= ? "
                "ORDER BY position LIMIT ?",
                (after, until, limit),
            )
            return rows, names.places({row[1] for row in rows})

    def topics(self) -> dict[int, tuple[str, int]]:
        """See LogRecorder.topics."""
        with self._scans.turn() as names:
            return names.topics()

    # --- as they stand -------------------------------------------------------------------------------
    def unchecked(self, after: int, until: int, limit: int) -> list[Stored]:
        """See LogRecorder.unchecked: SQLite stores any type in any column."""
        sql = f"SELECT {COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        with self._scans.turn():
            return [self._named(row) for row in self._scans.rows(sql, (after, until, limit))]

    def key_rows(self) -> list[Row]:
        """See LogRecorder.key_rows."""
        return self._scans.ask("SELECT * FROM seal_key ORDER BY number") if self.format() >= WITH_KEYS else []

    def structure_faults(self) -> list[str]:
        """See LogRecorder.structure_faults."""
        found = [str(text) for (text,) in self._scans.ask("PRAGMA integrity_check(5)")]
        return [] if found == ["ok"] else found

    def _named(self, row: Row) -> Stored:
        try:
            return self._scans.of_row(row)
        except KeyError as error:
            raise LogCorrupt(f"position {row[0]} was changed: there is no topic {row[3]!r}") from error

    # --- places --------------------------------------------------------------------------------------
    @property
    def first(self) -> int:
        """The position behind the archived ones."""
        return self.archived.last() + 1

    def end(self) -> Place:
        """Of the newest event, or of what stands before the first. Raises LogCorrupt."""
        rows = self._at_once.ask("SELECT position, hash FROM event ORDER BY position DESC LIMIT 1")
        head = Place(int(rows[0][0]), self._hash(*rows[0])) if rows else Place(0, GENESIS)
        end = self.archived.index.last_segment()
        return head if end is None or end.last <= head.position else Place(end.last, end.hash)

    def newest(self) -> int:
        """The newest position; 0 for none."""
        ((found,),) = self._at_once.ask("SELECT max(position) FROM event")
        return max(found or 0, self.archived.last())

    def position_at(self, time: int) -> int:
        """The newest position whose event is not younger than that (Unix µs). Looks from the newest back, since a
        clock that was set back lets times and positions disagree; and in steps, between which others may read."""
        end, archived = self.newest(), self.archived.last()
        while end > archived:
            rows = self._scans.ask(
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
        rows = self._at_once.ask("SELECT time FROM event WHERE position = ?", (position,))
        if rows:
            return int(rows[0][0])
        block = self.archived.index.block_at(position)
        if block is None:
            raise LogCorrupt(f"{self.database}: no event at position {position}")
        return block.oldest

    def older_until(self, time: int, most: int) -> tuple[int, int]:
        """See LogRecorder.older_until."""
        first = self.first
        rows = self._scans.ask(
            "SELECT position, old, ahead, total, last FROM (SELECT position, sum(time <= ?1) OVER upwards AS old, "
            "sum(iif(time <= ?1, 1, -1)) OVER upwards AS ahead, sum(time <= ?1) OVER () AS total, "
            "max(position) OVER () AS last FROM event "
            "WHERE position >= ?2 AND position < ?3 WINDOW upwards AS (ORDER BY position)) "
            "ORDER BY ahead DESC, position LIMIT 1",
            (time, first, first + most),
        )
        position, old, ahead, total, last = map(int, rows[0]) if rows else (0, 0, 0, 0, 0)
        if position == last:  # or further on, where rows are missing: who archives them finds that
            position = min(self.newest(), first + most - 1)
        return (position, total - old) if ahead > 0 else (0, total)

    def streams_between(self, after: int, until: int, limit: int) -> tuple[list[str], int]:
        """See LogRecorder.streams_between."""
        sql = "SELECT position, stream FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        rows = self._scans.ask(sql, (after, until, limit))
        with self._scans.turn() as stored:
            names = [stored.stream(number) for number in dict.fromkeys(number for _, number in rows)]
        return names, int(rows[-1][0]) if len(rows) == limit else until

    def streams(self, kind: str) -> list[str]:
        """See LogRecorder.streams."""
        sql = "SELECT name FROM stream WHERE name >= ? AND name < ? ORDER BY id"
        return [name for (name,) in self._at_once.ask(sql, (f"{kind}-", f"{kind}."))]

    def previous_hash(self, position: int) -> bytes:
        """See LogRecorder.previous_hash."""
        if position <= 1:
            return GENESIS
        rows = self._at_once.ask("SELECT hash FROM event WHERE position = ?", (position - 1,))
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
        if not self._at_once.ask("SELECT 1 FROM sqlite_schema WHERE name = 'note'"):
            return None  # a log that an older program wrote, opened to be read
        rows = self._at_once.ask("SELECT value FROM note WHERE name = ?", (name,))
        if rows and not isinstance(rows[0][0], bytes):
            raise LogCorrupt(f"{self.database}: the note {name} was changed: it is {type(rows[0][0]).__name__}")
        return rows[0][0] if rows else None

    def format(self) -> int:
        with self._at_once.turn():
            return format_of(self._at_once.connection)


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
