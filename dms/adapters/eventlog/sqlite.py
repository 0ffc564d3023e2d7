"""A log in an SQLite file: what is open of it, and the recorder made of its reading and its writing side."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog import sqlite_keys
from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.envelope import Draft, Place, Stored
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.recorder import LeanRow, LogRecorder, MovedRows, is_passing
from dms.adapters.eventlog.segments import Block, Segment
from dms.adapters.eventlog.sqlite_archive import SQLiteArchiveIndex
from dms.adapters.eventlog.sqlite_errors import at_the_seam, errors_of_the_library
from dms.adapters.eventlog.sqlite_inuse import FilesInUse
from dms.adapters.eventlog.sqlite_owned import OwnedFile
from dms.adapters.eventlog.sqlite_reader import SQLiteReader
from dms.adapters.eventlog.sqlite_schema import WITH_ARCHIVE, check_format, connect, migrate
from dms.adapters.eventlog.sqlite_writer import SQLiteWriter
from dms.database import SUFFIXES, beside, real_path
from dms.disk import passes
from dms.errors import InvalidInput, LogCorrupt, LogUnavailable

ARCHIVE_FOLDER = "archive"  # beside the database


@errors_of_the_library
class SQLiteRecorder(LogRecorder):
    """One writer: the object that was opened with `own=True`. Readers may be many. Without `own` there is no writer."""

    writer: SQLiteWriter

    def __init__(self, database: Path, *, own: bool = True) -> None:
        """Raises AlreadyRunning when another process owns it, LogCorrupt when it is not a log of ours;
        LogUnavailable, ConfigError when that can't be told now, or ever."""
        self.database, self.where, self._own = database, str(database), own
        self._owned = OwnedFile(database) if own else None
        self._connections: list[sqlite3.Connection] = []
        self.listeners: list[SimpleQueue[None]] = []
        try:
            self._open()
            self._files = FilesInUse(database) if own else None
        except (sqlite3.Error, PersistenceError, OSError) as error:
            self._release()
            text = f"{database} can't be opened as an event log: {error}"
            raise LogUnavailable(text) if _passes(error) else LogCorrupt(text) from error
        except LogCorrupt:
            self._release()
            raise

    def _open(self) -> None:
        writing = self._connect(read_only=False) if self._own else None
        if writing is not None:
            migrate(writing)
        reading, scanning = self._connect(), self._connect()
        has_archive = check_format(reading, self.database) >= WITH_ARCHIVE
        self.keys = Keyring(sqlite_keys.SQLiteKeys(self._connect()))
        index = SQLiteArchiveIndex(self._connect(), exists=has_archive)
        self.archived = Archived(index, self.database.with_name(ARCHIVE_FOLDER))
        self.reader = SQLiteReader(reading, scanning, self.archived, self.database)
        self._end = self.reader.end()
        if writing is not None:
            self.writer = SQLiteWriter(writing, self.keys, index, self._end)

    def _connect(self, *, read_only: bool = True) -> sqlite3.Connection:
        """One that is closed with this object, and when it can't be made."""
        connection = connect(self.database, read_only=read_only)
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        with self.writer.paused() if self._own else nullcontext(), self.reader.paused():
            self.keys.close()
            self.archived.index.close()
            self._release()

    def _release(self) -> None:
        """Before the next owner may open it, our connections are closed: the one that writes last, for only it can
        bring what the write-ahead log holds into the database."""
        for connection in reversed(self._connections):
            connection.close()
        if self._owned is not None:
            self._owned.release()
            self._owned = None

    def reopened(self) -> SQLiteRecorder:
        return SQLiteRecorder(self.database, own=False)

    def interrupt(self) -> None:
        self.reader.interrupt()

    def fault(self) -> str:
        return self._files.fault() if self._files is not None else ""

    # --- writing -------------------------------------------------------------------------------------
    @property
    def head(self) -> int:
        """The newest position that was committed here; without `own`, what it was when the log was opened."""
        return (self.writer.head if self._own else self._end).position

    def insert(self, drafts: Sequence[Draft]) -> list[Place]:
        return self.writer.insert(drafts)

    def commit(self) -> float:
        seconds = self.writer.commit()
        self._tell()
        return seconds

    def rollback(self) -> None:
        self.writer.rollback()

    def set_note(self, name: str, value: bytes) -> None:
        self.writer.set_note(name, value)

    def destroy_keys(self, scopes: Sequence[str]) -> int:
        return sqlite_keys.destroy(connect(self.database), scopes, self.keys)

    def probe(self) -> None:
        self.writer.probe()

    def note_archived(self, segment: Segment, blocks: Sequence[Block]) -> None:
        self.writer.note_archived(segment, blocks)

    def drop_archived(self, parts: Sequence[MovedRows]) -> None:
        self.writer.drop_archived(parts)

    # --- reading -------------------------------------------------------------------------------------
    def read(
        self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "", until: int | None = None
    ) -> list[Stored]:
        return self.reader.read(after, limit, topics=topics, stream=stream, until=until)

    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        return self.reader.read_stream(stream, after_version)

    def newest_of(self, stream: str, topics: Sequence[str]) -> Stored | None:
        return self.reader.newest_of(stream, topics)

    def streams(self, kind: str) -> list[str]:
        return self.reader.streams(kind)

    def lean_rows(
        self, after: int, limit: int, until: int, unread: Collection[int]
    ) -> tuple[list[LeanRow], Mapping[int, tuple[str, str]]]:
        return self.reader.lean_rows(after, limit, until, unread)

    def topics(self) -> dict[int, tuple[str, int]]:
        return self.reader.topics()

    def older_until(self, time: int, most: int) -> tuple[int, int]:
        return self.reader.older_until(time, most)

    def streams_between(self, after: int, until: int, limit: int) -> tuple[list[str], int]:
        return self.reader.streams_between(after, until, limit)

    def unchecked(self, after: int, until: int, limit: int = -1) -> list[Stored]:
        return self.reader.unchecked(after, until, limit)

    def key_rows(self) -> Iterable[tuple[Any, ...]]:
        return self.reader.key_rows()

    def structure_faults(self) -> Sequence[str]:
        return self.reader.structure_faults()

    def max_notification_id(self) -> int | None:
        return self.reader.newest() or None

    @property
    def first(self) -> int:
        return self.reader.first

    def position_at(self, time: int) -> int:
        return self.reader.position_at(time)

    def time_at(self, position: int) -> int:
        return self.reader.time_at(position)

    def previous_hash(self, position: int) -> bytes:
        return self.reader.previous_hash(position)

    def note(self, name: str) -> bytes | None:
        return self.reader.note(name)


def _passes(error: Exception) -> bool:
    """Whether it says nothing of what is in the file."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(cause, OSError):
        return passes(cause)
    return is_passing(at_the_seam(error) if isinstance(error, sqlite3.Error) else error)


@contextmanager
def new_log(database: Path) -> Iterator[SQLiteRecorder]:
    """One that is made now, and gone again unless all goes well. Raises InvalidInput when there is one already."""
    if database.exists():
        raise InvalidInput(f"{database} is there already; name a file that is not")
    recorder = SQLiteRecorder(database)
    done = False
    try:
        yield recorder
        done = True
    finally:
        recorder.close()
        if not done:
            for suffix in ("", *SUFFIXES, ".lock"):
                beside(real_path(database), suffix).unlink(missing_ok=True)
