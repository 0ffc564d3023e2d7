"""The event log's tables in SQLite, and the recorder that reads and writes them.

Satisfies eventsourcing's ApplicationRecorder (its own test suite runs on it), and adds what the
library has no place for: event metadata, the hash chain, and writing in two steps (insert, commit)
so that many commands share one fsync. Layout and pragmas follow measurements: integer streams keep
the index compact; synchronous=FULL loses nothing at a power cut, NORMAL does.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    OperationalError,
    StoredEvent,
    Subscription,
)
from msgspec import Struct

from dms.adapters.eventlog import keyring
from dms.adapters.eventlog.archive_reader import SCHEMA as ARCHIVE_SCHEMA
from dms.adapters.eventlog.archive_reader import Archived, verified
from dms.adapters.eventlog.inuse import FilesInUse
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.owned import OwnedFile
from dms.adapters.eventlog.segments import Block
from dms.adapters.eventlog.subscription import BlockingSubscription, WakingRecorder
from dms.database import connect as connect_database
from dms.domain.audit import recorded
from dms.domain.chain import GENESIS, SignedRecord, link
from dms.domain.event import Event, Recorded, decode, new_id_bytes
from dms.errors import ArchiveUnreadable, LogCorrupt

FORMAT = 3  # PRAGMA user_version
OLDEST_READ = 1  # older ones are brought up to FORMAT when they are opened to be written
WITH_ARCHIVE = 3  # the first format that has the archive's tables
APPLICATION_ID = 0x444D5331  # "DMS1"

_SCHEMA = f"""
CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, UNIQUE (name, version));
CREATE TABLE event (
  position INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  version INTEGER NOT NULL,
  topic INTEGER NOT NULL,
  time INTEGER NOT NULL,
  id BLOB NOT NULL,
  correlation BLOB NOT NULL,
  causation BLOB NOT NULL,
  traceparent TEXT NOT NULL,
  data BLOB NOT NULL,
  hash BLOB NOT NULL
);
CREATE UNIQUE INDEX event_of_stream ON event (stream, version);
PRAGMA application_id = {APPLICATION_ID};
"""
# No event, and no part of the chain: what this program keeps about the log. Older programs leave it alone.
_NOTES = "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_MIGRATIONS = {1: keyring.SCHEMA, 2: ARCHIVE_SCHEMA}  # from format n to n + 1
_INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "position, stream, version, topic, time, id, correlation, causation, traceparent, data, hash"
PROBE_BYTES = 65_536
ARCHIVE_FOLDER = "archive"  # beside the database
_STREAMS_REMEMBERED = 100_000  # ids of streams kept in memory; others are looked up again


class Draft(Struct, frozen=True, gc=False):
    """An event on its way into the log: all but its position and hash."""

    stream: str
    version: int
    topic: str
    schema_version: int
    time: int  # Unix µs
    id: bytes
    correlation: bytes
    causation: bytes
    traceparent: str
    event: Event | None  # None: came through the library's interface, as bytes only
    data: bytes


def _link_of(previous: bytes, row: tuple[Any, ...], stream: str, topic: str, schema_version: int) -> bytes:
    """The hash that a stored row must have. Raises LogCorrupt when a value is not even of its column's type: SQLite
    stores any type in any column."""
    try:
        return link(
            previous, row[0], stream.encode(), row[2], topic.encode(), schema_version, row[4], row[5], row[6], row[7],
            row[8].encode(), row[9],
        )  # fmt: skip
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        raise LogCorrupt(f"position {row[0]} ({topic} of {stream}) was changed: {error}") from error


NamedRows = tuple[list[tuple[Any, ...]], list[tuple[str, str, int]]]
"""Stored rows, and of each the names that stand in it as numbers: stream, topic, schema version."""


def _checked_links(position: int, previous: bytes, found: NamedRows) -> bytes:
    """The link at the last of the rows behind a position, whose link is `previous`. Raises LogCorrupt at the first
    that does not fit."""
    for row, (stream, topic, schema_version) in zip(*found, strict=True):
        position += 1
        if row[0] != position:
            raise LogCorrupt(f"position {position} is missing: the next event stands at {row[0]}")
        previous = _link_of(previous, row, stream, topic, schema_version)
        if previous != row[10]:
            raise LogCorrupt(f"position {position} ({topic} of {stream}) was changed: its hash does not fit")
    return previous


def connect(database: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with our pragmas; may be handed between threads, never shared by two at once."""
    connection = connect_database(database, read_only=read_only)
    try:
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # a page that is split must leave no copy of a key behind
        connection.execute("PRAGMA cache_size = -16384")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class SQLiteRecorder(WakingRecorder):
    """One writer: the object that was opened with `own=True`. Readers may be many."""

    def __init__(self, database: Path, *, own: bool = True) -> None:
        """Raises AlreadyRunning when another process owns it, LogCorrupt when it is no log of ours."""
        self.database = database
        self._lock = threading.Lock()  # around the writing connection: taken at insert, freed after commit
        self._read_lock = threading.Lock()
        self._owned = OwnedFile(database) if own else None
        self._topics: dict[int, tuple[str, int]] = {}
        self._topic_ids: dict[tuple[str, int], int] = {}
        self._streams: dict[str, int] = {}
        self._stream_names: dict[int, str] = {}
        self._stream_places: dict[int, tuple[str, str]] = {}
        self._new_streams: list[tuple[int, str]] = []  # made in the open transaction
        self._new_keys: list[keyring.Row] = []  # in the open transaction
        self._connections: list[sqlite3.Connection] = []
        try:
            if own:
                self._write = self._connect(read_only=False)
                self._prepare()
            self._read = self._connect()
            found = self._check_format()
            self.keys = Keyring(self._connect())
            self.archived = Archived(
                self._connect(),
                database.with_name(ARCHIVE_FOLDER),
                exists=found >= WITH_ARCHIVE,
            )
            self._next_stream = self._load_next_stream(self._read)
            self._load_topics(self._read)
            self.head, self.head_hash = self._load_head()
            self.files = FilesInUse(database) if own else None
        except (sqlite3.Error, OSError) as error:
            self._release()
            raise LogCorrupt(f"{database} can't be opened as an event log: {error}") from error
        except LogCorrupt:
            self._release()
            raise
        self.listeners: list[SimpleQueue[None]] = []

    def _connect(self, *, read_only: bool = True) -> sqlite3.Connection:
        """One that is closed with this object, and when it can't be made."""
        connection = connect(self.database, read_only=read_only)
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        with self._lock, self._read_lock:
            self.keys.close()
            self.archived.close()
            self._release()

    # --- writing in two steps, for group commit -----------------------------------------------
    def insert(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Opens a transaction and puts the events in it, chained behind the head. Must be followed
        by commit() or rollback(), from any thread. When it raises, it has rolled back."""
        self._lock.acquire()
        try:
            self._write.execute("BEGIN IMMEDIATE")
            if len(self._streams) >= _STREAMS_REMEMBERED:  # never between a stream's first event and its second
                self._streams.clear()
            recorded, rows = self._chain(drafts)
            if self._new_streams:
                self._write.executemany("INSERT INTO stream VALUES (?, ?)", self._new_streams)
                self._new_streams.clear()
            self._write.executemany(_INSERT, rows)
            self._new_keys = self.keys.unwritten()
            if self._new_keys:
                self._write.executemany(keyring.INSERT, self._new_keys)
        except BaseException:
            self.rollback()
            raise
        return recorded

    def commit(self) -> float:
        """Makes the inserted events durable (one fsync). Seconds it took. Raises sqlite3.Error
        after rolling back."""
        started = time.perf_counter()
        try:
            self._write.execute("COMMIT")
        except sqlite3.Error:
            self.rollback()
            raise
        self.head, self.head_hash = self._next_head
        self.keys.written(self._new_keys)
        self._lock.release()
        for listener in self.listeners:
            listener.put(None)
        return time.perf_counter() - started

    def destroy_keys(self, scopes: Sequence[str]) -> int:
        """See keyring.destroy. Blocking, beside the writer's own work."""
        return keyring.destroy(connect(self.database), scopes, self.keys)

    def rollback(self) -> None:
        try:
            # Ids handed out inside the transaction are gone with it.
            self._new_streams.clear()
            self._streams.clear()
            self._topic_ids.clear()
            if self._write.in_transaction:
                self._write.execute("ROLLBACK")
            self._next_stream = self._load_next_stream(self._write)
            self._load_topics(self._write)
        finally:
            self._lock.release()

    @contextmanager
    def between_events(self) -> Iterator[sqlite3.Connection]:
        """A short transaction of the archive, beside those that append. Raises sqlite3.Error, rolled back."""
        with self._lock:
            self._write.execute("BEGIN IMMEDIATE")
            try:
                yield self._write
                self._write.execute("COMMIT")
            except BaseException:
                if self._write.in_transaction:
                    self._write.execute("ROLLBACK")
                raise
            self._streams.clear()  # so that the next event of one that was archived is looked at (see _stream_id)

    def _chain(self, drafts: Sequence[Draft]) -> tuple[list[Recorded], list[tuple[Any, ...]]]:
        position, previous = self.head, self.head_hash
        recorded: list[Recorded] = []
        rows: list[tuple[Any, ...]] = []
        for draft in drafts:
            position += 1
            stream = self._streams.get(draft.stream) or self._stream_id(draft.stream, draft.version)
            topic = self._topic_ids.get((draft.topic, draft.schema_version)) or self._topic_id(draft)
            previous = link(
                previous, position, draft.stream.encode(), draft.version, draft.topic.encode(), draft.schema_version,
                draft.time, draft.id, draft.correlation, draft.causation, draft.traceparent.encode(), draft.data,
            )  # fmt: skip
            rows.append(
                (position, stream, draft.version, topic, draft.time, draft.id, draft.correlation, draft.causation,
                 draft.traceparent, draft.data, previous)
            )  # fmt: skip
            if draft.event is not None:
                recorded.append(
                    Recorded(
                        position, draft.stream, draft.version, draft.topic, draft.schema_version, draft.time, draft.id,
                        draft.correlation, draft.causation, draft.traceparent, draft.data, previous, draft.event,
                    )
                )  # fmt: skip
        self._next_head = position, previous
        return recorded, rows

    # --- what is kept about the log ------------------------------------------------------------
    def note(self, name: str) -> bytes | None:
        """None when there is none. Raises LogCorrupt for one that nobody of us wrote."""
        with self._read_lock:
            if not self._read.execute("SELECT 1 FROM sqlite_schema WHERE name = 'note'").fetchone():
                return None  # a log that an older program wrote, opened to be read
            row = self._read.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        if row is not None and not isinstance(row[0], bytes):
            raise LogCorrupt(f"{self.database}: the note {name} was changed: it is {type(row[0]).__name__}")
        return None if row is None else row[0]

    def set_note(self, name: str, value: bytes) -> None:
        """Durable when it returns. Raises sqlite3.Error."""
        with self.between_events() as connection:
            connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    def streams(self, kind: str) -> list[str]:
        """Names of the streams of a kind, in the order made."""
        with self._read_lock:
            rows = self._read.execute(
                "SELECT name FROM stream WHERE name >= ? AND name < ? ORDER BY id", (f"{kind}-", f"{kind}.")
            ).fetchall()
        return [name for (name,) in rows]

    # --- reading -------------------------------------------------------------------------------
    def read(
        self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "", until: int | None = None
    ) -> list[Recorded]:
        """Events behind position `after`, in order, at most `limit`, none behind `until`."""
        if stream:
            return self._read_of_stream(stream, after, limit, topics, until)
        found: list[Recorded] = []
        while True:
            archived = self.archived.last()
            end = archived if until is None else min(archived, until)
            if after < end:
                found += map(self._of_record, self.archived.read(after, limit - len(found), end, topics))
                if len(found) >= limit:
                    return found
                after = archived
            rows = self._rows("position", [], after, limit - len(found), topics, until)
            if self.archived.last() == archived:  # else some of the rows may have gone between the two looks
                return found + rows

    def _read_of_stream(
        self, stream: str, after: int, limit: int, topics: Sequence[str], until: int | None
    ) -> list[Recorded]:
        with self._read_lock:
            stream_id = self._find_stream(stream)
        if stream_id is None:
            return []
        # The index is by version; a stream's positions ascend with it.
        rows = self._rows("version", [stream_id], after, limit, topics, until)

        def wanted(record: SignedRecord) -> bool:
            fits = record.position > after and (until is None or record.position <= until)
            return fits and (not topics or record.topic in topics)

        archived = self.archived.of_stream(stream_id, stream, wanted)
        return self._merged(list(islice(archived, limit)), rows)[:limit]

    def _merged(self, archived: Sequence[SignedRecord], rows: list[Recorded]) -> list[Recorded]:
        """Of one stream: what was archived, and behind it what stands in the table. Some may be in both."""
        if not archived:
            return rows
        before = [self._of_record(one) for one in archived if not rows or one.position < rows[0].position]
        return before + rows

    def _rows(
        self, order: str, stream: list[int], after: int, limit: int, topics: Sequence[str], until: int | None
    ) -> list[Recorded]:
        """Those in the table. stream: its id, or nothing for all."""
        sql, arguments = f"SELECT {_COLUMNS} FROM event WHERE position > ?", [after]
        if stream:
            sql, arguments = f"SELECT {_COLUMNS} FROM event WHERE stream = ? AND position > ?", [*stream, after]
        with self._read_lock:
            if topics:
                marks = [str(i) for i, (name, _) in self._known_topics().items() if name in topics]
                sql += f" AND topic IN ({','.join(marks)})"
            if until is not None:
                sql, arguments = sql + " AND position <= ?", [*arguments, until]
            rows = self._read.execute(f"{sql} ORDER BY {order} LIMIT ?", [*arguments, limit]).fetchall()
            return [self._recorded(row) for row in rows]

    def rows_for_folds(
        self, after: int, limit: int, until: int, unread: Collection[int]
    ) -> tuple[list[tuple[int, int, int, int, bytes]], Mapping[int, tuple[str, str]]]:
        """(position, stream, topic, time, data) of each event, and (kind, key) of each stream; see facts.py.
        unread: topics whose data is not wanted, and None."""
        body = f"CASE WHEN topic NOT IN ({','.join(map(str, unread))}) THEN data END" if unread else "data"
        with self._read_lock:
            rows = self._read.execute(
                f"SELECT position, stream, topic, time, {body} FROM event WHERE position > ? AND position <= ? "
                "ORDER BY position LIMIT ?",
                (after, until, limit),
            ).fetchall()
            return rows, self._places({row[1] for row in rows})

    def _places(self, streams: set[int]) -> Mapping[int, tuple[str, str]]:
        """At least of these. In one query: of a look-up each, the looking up would be most of a bulk read."""
        if len(self._stream_places) >= _STREAMS_REMEMBERED:
            self._stream_places.clear()
        missing = streams - self._stream_places.keys()
        if missing:
            self._stream_places.update(dict.fromkeys(missing, ("", "")))
            names = self._read.execute(
                "SELECT id, name FROM stream WHERE id IN (SELECT value FROM json_each(?))", (str(list(missing)),)
            )
            for stream, name in names:
                kind, _, key = name.partition("-")
                self._stream_places[stream] = kind, key
        return self._stream_places

    def topics(self) -> dict[int, tuple[str, int]]:
        """Name and schema version by id."""
        with self._read_lock:
            return self._known_topics()

    def read_stream(self, stream: str, after_version: int = 0) -> list[Recorded]:
        """All events of one aggregate behind a version."""
        with self._read_lock:
            stream_id = self._find_stream(stream)
            if stream_id is None:
                return []
            rows = self._read.execute(
                f"SELECT {_COLUMNS} FROM event WHERE stream = ? AND version > ? ORDER BY version",
                (stream_id, after_version),
            ).fetchall()
            found = [self._recorded(row) for row in rows]
        if found and found[0].originator_version == after_version + 1:
            return found  # the usual case: versions are gap-free, and the oldest leave the table first
        archived = self.archived.of_stream(stream_id, stream, lambda record: record.version > after_version)
        return self._merged(list(archived), found)

    def position_at(self, time: int) -> int:
        """The newest position whose event is not younger than that (Unix µs). Looks from the newest back, since a
        clock that was set back lets times and positions disagree."""
        with self._read_lock:
            row = self._read.execute(
                "SELECT position FROM event WHERE time <= ? ORDER BY position DESC LIMIT 1", (time,)
            ).fetchone()
        found = 0 if row is None else int(row[0])
        return found if found > self.archived.last() else self.archived.newest_at(time)

    def older_until(self, time: int, most: int) -> int:
        """The last position of those behind the archived ones, at most so many, that are all not younger than that
        (Unix µs); 0 for none. Unlike with position_at, nothing younger stands before it."""
        first = self.first
        with self._read_lock:
            row = self._read.execute(
                "SELECT position FROM event WHERE position >= ? AND position < ? AND time > ? ORDER BY position "
                "LIMIT 1",
                (first, first + most, time),
            ).fetchone()
        end = min(self.head, first + most - 1) if row is None else int(row[0]) - 1
        return end if end >= first else 0

    def places(self, after: int, until: int, limit: int) -> list[tuple[int, int]]:
        """(position, id of the stream) of the rows in the table, in order."""
        with self._read_lock:
            return self._read.execute(
                "SELECT position, stream FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
                (after, until, limit),
            ).fetchall()

    def name_of(self, stream: int) -> str:
        """Of a stream's id."""
        with self._read_lock:
            return self._stream_name(stream)

    @property
    def first(self) -> int:
        """The position behind the archived ones."""
        return self.archived.last() + 1

    def previous_hash(self, position: int) -> bytes:
        """The chain's link before a position."""
        if position <= 1:
            return GENESIS
        with self._read_lock:
            row = self._read.execute("SELECT hash FROM event WHERE position = ?", (position - 1,)).fetchone()
        if row is not None:
            return self._hash(position - 1, row[0])
        segment = self.archived.segment_at(position - 1)
        if segment is not None and segment.last == position - 1:
            return self._hash(position - 1, segment.hash)  # what goes on behind a file does not need that file
        record = self.archived.at(position - 1)
        if record is None:
            raise LogCorrupt(f"{self.database}: no event at position {position - 1}")
        return bytes.fromhex(record.hash)

    def verify(self, batch: int = 5000) -> Iterator[int]:
        """Recomputes the whole chain; yields the position reached after each batch.
        Raises LogCorrupt naming the first position that does not fit. Of the archived part it also holds what is still
        in the table against the files, and that what is not can be found."""
        position, previous = files = 0, GENESIS  # files: of the archived part, as far as it was looked at
        while True:
            archived = self.archived.last()
            if files[0] < archived:  # perhaps only since its rows were looked at: then all goes on behind the files
                for reached in self._verify_archived(*files):
                    position, previous = reached
                    yield position
                files = position, previous
                continue
            found = self._named_rows(position, batch)
            if self.archived.last() != archived:
                continue  # some of the rows may have gone between the two looks
            previous = _checked_links(position, previous, found)
            if not found[0]:
                return
            position += len(found[0])
            yield position

    @property
    def reading(self) -> sqlite3.Connection:
        """To be interrupted from another thread."""
        return self._read

    def check_keys(self) -> None:
        """Whether each key of personal data is the one that its name says, and none has gone. Raises LogCorrupt."""
        with self._read_lock:
            if self._read.execute("PRAGMA user_version").fetchone()[0] > 1:  # the first format had none
                keyring.check(self._read)

    def check_structure(self) -> None:
        """What the chain does not see: indices that miss a row, pages that nothing leads to. Raises LogCorrupt."""
        with self._read_lock:
            found = [text for (text,) in self._read.execute("PRAGMA integrity_check(5)")]
        if found != ["ok"]:
            raise LogCorrupt(f"{self.database} is damaged: {'; '.join(' '.join(text.split()) for text in found)}")

    def probe(self) -> None:
        """Writes and removes about as much as commands do. Raises sqlite3.Error while nothing can be written."""
        for content in (bytes(PROBE_BYTES), b""):
            self.set_note("probe", content)

    def check_rows(self, after: int, previous: bytes, count: int) -> None:
        """Recomputes the chain of so many rows in the table. previous: the link at `after`. Raises LogCorrupt."""
        found = self._named_rows(after, count)
        _checked_links(after, previous, found)
        if (end := after + len(found[0])) < after + count:
            raise LogCorrupt(f"position {end + 1} is missing, and all behind it")

    def _named_rows(self, after: int, limit: int) -> NamedRows:
        try:
            with self._read_lock:
                rows = self._read.execute(
                    f"SELECT {_COLUMNS} FROM event WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
                ).fetchall()
                return rows, [self._names(row) for row in rows]
        except sqlite3.Error as error:
            raise LogCorrupt(f"the log can't be read behind position {after}: {error}") from error

    def _verify_archived(self, position: int, previous: bytes) -> Iterator[tuple[int, bytes]]:
        """The next segment; yields the position and the link reached after each block."""
        try:
            for block, records in verified(self.archived, position, previous):
                with self._read_lock:
                    rows = self._read.execute(
                        f"SELECT {_COLUMNS} FROM event WHERE position >= ? AND position <= ?", (block.first, block.last)
                    ).fetchall()
                    self._compare(block, records, {row[0]: row for row in rows})
                yield block.last, bytes.fromhex(records[-1].hash)
        except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
            raise LogCorrupt(f"the archive can't be read behind position {position}: {error}") from error

    def _compare(self, block: Block, records: Sequence[SignedRecord], rows: dict[int, tuple[Any, ...]]) -> None:
        newest: dict[str, int] = {}  # version of each stream
        moved: dict[str, SignedRecord] = {}  # the newest of each stream that is not in the table
        for record in records:
            newest[record.stream] = record.version
            row = rows.get(record.position)
            if row is None:
                moved[record.stream] = record
            elif not (bytes.fromhex(record.hash) == row[10] == self._link_there(record, row)):
                raise LogCorrupt(
                    f"position {record.position} ({record.topic} of {record.stream}) was changed: the table and the "
                    f"archive's {block.file} do not tell the same"
                )
        noted = self.archived.versions(newest, block.first)
        for name, record in moved.items():
            if noted.get(name, 0) < record.version:
                raise LogCorrupt(
                    f"position {record.position} ({record.topic} of {name}) is missing in the table, and the archive's "
                    "index does not have it either"
                )
        for name, version in noted.items():
            if version > newest[name]:
                raise LogCorrupt(
                    f"the archive's index was changed: version {version} of {name} is not in positions {block.first} "
                    f"to {block.last}"
                )

    def _link_there(self, record: SignedRecord, row: tuple[Any, ...]) -> bytes:
        """What the row's content gives behind the same link."""
        return _link_of(bytes.fromhex(record.previous), row, *self._names(row))

    def _names(self, row: tuple[Any, ...]) -> tuple[str, str, int]:
        """Stream, topic and schema version of a stored row. Raises LogCorrupt."""
        try:
            return self._stream_name(row[1]), *self._topic(row[3])
        except KeyError as error:
            raise LogCorrupt(f"position {row[0]} was changed: there is no topic {row[3]!r}") from error

    def _recorded(self, row: tuple[Any, ...]) -> Recorded:
        topic, schema_version = self._topic(row[3])
        position, stream, version, _, time, event_id, correlation, causation, traceparent, data, link_ = row
        name = self._stream_names.get(stream) or self._stream_name(stream)
        try:
            event = decode(topic, schema_version, data, self.keys)
        except LogCorrupt as error:
            raise LogCorrupt(f"position {position} ({topic} of {name}) was changed: {error}") from error
        return Recorded(
            position, name, version, topic, schema_version, time, event_id, correlation, causation, traceparent,
            data, link_, event,
        )  # fmt: skip

    def _of_record(self, record: SignedRecord) -> Recorded:
        """As `_recorded`, of the archive. Raises ArchiveUnreadable."""
        try:
            return recorded(record, self.keys)
        except (ValueError, UnicodeError) as error:
            raise ArchiveUnreadable(f"position {record.position} of the archive was changed: {error}") from error

    # --- eventsourcing's interface ---------------------------------------------------------------
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        if not stored_events:
            return []
        now = time.time_ns() // 1000
        drafts = [
            Draft(
                str(e.originator_id), e.originator_version, e.topic, 1, now, new_id_bytes(), b"", b"", "", None, e.state
            )
            for e in stored_events
        ]
        first = None
        try:
            self.insert(drafts)
            last = self._next_head[0]
            first = last - len(drafts) + 1
            self.commit()
        except sqlite3.IntegrityError as error:
            raise IntegrityError(error) from error
        except sqlite3.Error as error:
            raise OperationalError(error) from error
        return list(range(first, last + 1))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        if self.archived.last():
            events = [
                e for e in self.read_stream(str(originator_id), gt or 0) if lte is None or e.originator_version <= lte
            ]
            return [
                StoredEvent(originator_id, e.originator_version, e.topic, e.data)
                for e in (events[::-1] if desc else events)[:limit]
            ]
        with self._read_lock:
            rows = self._read.execute(
                "SELECT version, topic, data FROM event WHERE stream = ? AND version > ? AND version <= ? "
                f"ORDER BY version {'DESC' if desc else 'ASC'} LIMIT ?",
                (
                    self._find_stream(str(originator_id)),
                    -1 if gt is None else gt,
                    2**62 if lte is None else lte,
                    -1 if limit is None else limit,
                ),
            ).fetchall()
            return [StoredEvent(originator_id, version, self._topic(topic)[0], data) for version, topic, data in rows]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        first = (start or 0) + (0 if inclusive_of_start else 1)
        if max(first, 1) <= self.archived.last():
            found = self.read(max(0, first - 1), limit, topics=topics, until=stop)
            return [Notification(e.originator_id, e.originator_version, e.topic, e.data, e.position) for e in found]
        with self._read_lock:
            sql = "SELECT position, stream, version, topic, data FROM event WHERE position >= ? AND position <= ?"
            if topics:
                marks = [str(i) for i, (name, _) in self._known_topics().items() if name in topics]
                sql += f" AND topic IN ({','.join(marks)})"
            last = 2**62 if stop is None else stop
            rows = self._read.execute(f"{sql} ORDER BY position LIMIT ?", (first, last, limit)).fetchall()
            return [
                Notification(self._stream_name(stream), version, self._topic(topic)[0], data, position)
                for position, stream, version, topic, data in rows
            ]

    def max_notification_id(self) -> int | None:
        with self._read_lock:
            newest = self._read.execute("SELECT max(position) FROM event").fetchone()[0] or 0
        return max(newest, self.archived.last()) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        return BlockingSubscription(self, gt, topics)

    # --- names and ids ---------------------------------------------------------------------------
    def _stream_id(self, name: str, version: int) -> int:
        """Of the writing side: makes a new one when there is none. A first event needs no look-up;
        should its stream exist all the same, the unique name refuses the transaction."""
        found = None
        if version != 1:
            found = self._write.execute("SELECT id FROM stream WHERE name = ?", (name,)).fetchone()
        if found is not None and (archived := self.archived.version(found[0])):
            if version <= archived:  # the unique index sees only what is in the table
                raise sqlite3.IntegrityError(f"version {version} of {name} is archived")
            return int(found[0])  # and not remembered: each further event is looked at as well
        if found is None:
            found = (self._next_stream,)
            self._new_streams.append((self._next_stream, name))
            self._next_stream += 1
        self._streams[name] = found[0]
        return int(found[0])

    @staticmethod
    def _load_next_stream(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT coalesce(max(id), 0) + 1 FROM stream").fetchone()[0])

    def _find_stream(self, name: str) -> int | None:
        row = self._read.execute("SELECT id FROM stream WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _stream_name(self, stream: int) -> str:
        name = self._stream_names.get(stream)
        if name is None:
            row = self._read.execute("SELECT name FROM stream WHERE id = ?", (stream,)).fetchone()
            name = "" if row is None else str(row[0])
            if len(self._stream_names) >= _STREAMS_REMEMBERED:
                self._stream_names.clear()
            self._stream_names[stream] = name
        return name

    def _topic_id(self, draft: Draft) -> int:
        key = (draft.topic, draft.schema_version)
        row = self._write.execute("INSERT INTO topic (name, version) VALUES (?, ?) RETURNING id", key).fetchone()
        self._topic_ids[key] = row[0]
        return int(row[0])

    def _topic(self, topic: int) -> tuple[str, int]:
        return self._topics.get(topic) or self._known_topics()[topic]

    def _known_topics(self) -> dict[int, tuple[str, int]]:
        """Of the reading side, refreshed: only committed topics can stand in committed events."""
        self._topics = {i: (n, v) for i, n, v in self._read.execute("SELECT id, name, version FROM topic")}
        return self._topics

    def _load_topics(self, connection: sqlite3.Connection) -> None:
        for i, name, version in connection.execute("SELECT id, name, version FROM topic"):
            self._topics[i] = (name, version)
            self._topic_ids[name, version] = i

    # --- opening -----------------------------------------------------------------------------------
    def _prepare(self) -> None:
        """Makes the tables, or brings those of an older program up to date, in one transaction."""
        found = self._write.execute("PRAGMA user_version").fetchone()[0]
        if found and self._write.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            return  # another program's: refused below, and left as it is
        steps = "" if found else _SCHEMA
        steps += "".join(_MIGRATIONS[number] for number in range(found or 1, FORMAT))
        if steps:
            self._write.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {FORMAT}; COMMIT;")
        self._write.execute(_NOTES)

    def _check_format(self) -> int:
        """The format found; an older one where the log is only read."""
        application = self._read.execute("PRAGMA application_id").fetchone()[0]
        version = int(self._read.execute("PRAGMA user_version").fetchone()[0])
        if application != APPLICATION_ID or not OLDEST_READ <= version <= FORMAT:
            raise LogCorrupt(
                f"{self.database} is no event log of format {FORMAT} (found format {version}); "
                "an older or newer program may have written it"
            )
        return version

    def _load_head(self) -> tuple[int, bytes]:
        row = self._read.execute("SELECT position, hash FROM event ORDER BY position DESC LIMIT 1").fetchone()
        head = (0, GENESIS) if row is None else (int(row[0]), self._hash(row[0], row[1]))
        end = self.archived.end()
        return head if end is None or end.last <= head[0] else (end.last, end.hash)

    def _hash(self, position: int, stored: object) -> bytes:
        """SQLite stores any type in any column."""
        if not isinstance(stored, bytes):
            raise LogCorrupt(f"{self.database}: position {position} was changed: its hash is {type(stored).__name__}")
        return stored

    def _release(self) -> None:
        """Before the next owner may open it, our connections are closed: the one that writes last, for only it can
        bring what the write-ahead log holds into the database."""
        for connection in reversed(self._connections):
            connection.close()
        if self._owned is not None:
            self._owned.release()
            self._owned = None
