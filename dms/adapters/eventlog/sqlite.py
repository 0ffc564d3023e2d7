"""A log in an SQLite file: what is open of it, and the recorder made of its reading and its writing side."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from eventsourcing.persistence import IntegrityError, OperationalError, StoredEvent

from dms.adapters.eventlog import keyring
from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.envelope import Draft, Place, Stored
from dms.adapters.eventlog.inuse import FilesInUse
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.owned import OwnedFile
from dms.adapters.eventlog.recorder import LogRecorder
from dms.adapters.eventlog.sqlite_reader import SQLiteReader
from dms.adapters.eventlog.sqlite_schema import WITH_ARCHIVE, check_format, connect, migrate
from dms.adapters.eventlog.sqlite_writer import SQLiteWriter
from dms.errors import LogCorrupt

ARCHIVE_FOLDER = "archive"  # beside the database


class SQLiteRecorder(LogRecorder):
    """One writer: the object that was opened with `own=True`. Readers may be many.

    reader, writer: for what only SQLite has: rows in bulk, the archive's steps. Without `own` there is no writer."""

    writer: SQLiteWriter

    def __init__(self, database: Path, *, own: bool = True) -> None:
        """Raises AlreadyRunning when another process owns it, LogCorrupt when it is not a log of ours."""
        self.database, self._own = database, own
        self._owned = OwnedFile(database) if own else None
        self._connections: list[sqlite3.Connection] = []
        self.listeners: list[SimpleQueue[None]] = []
        try:
            self._open()
            self.files = FilesInUse(database) if own else None
        except (sqlite3.Error, OSError) as error:
            self._release()
            raise LogCorrupt(f"{database} can't be opened as an event log: {error}") from error
        except LogCorrupt:
            self._release()
            raise

    def _open(self) -> None:
        writing = self._connect(read_only=False) if self._own else None
        if writing is not None:
            migrate(writing)
        reading = self._connect()
        has_archive = check_format(reading, self.database) >= WITH_ARCHIVE
        self.keys = Keyring(self._connect())
        self.archived = Archived(self._connect(), self.database.with_name(ARCHIVE_FOLDER), exists=has_archive)
        self.reader = SQLiteReader(reading, self.archived, self.database)
        self._end = self.reader.end()
        if writing is not None:
            self.writer = SQLiteWriter(writing, self.keys, self.archived, self._end)

    def _connect(self, *, read_only: bool = True) -> sqlite3.Connection:
        """One that is closed with this object, and when it can't be made."""
        connection = connect(self.database, read_only=read_only)
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        with self.writer.paused() if self._own else nullcontext(), self.reader.paused():
            self.keys.close()
            self.archived.close()
            self._release()

    def _release(self) -> None:
        """Before the next owner may open it, our connections are closed: the one that writes last, for only it can
        bring what the write-ahead log holds into the database."""
        for connection in reversed(self._connections):
            connection.close()
        if self._owned is not None:
            self._owned.release()
            self._owned = None

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

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Raises the library's errors."""
        with _errors_of_the_library():
            return super().insert_events(stored_events, **kwargs)

    def between_events(self) -> AbstractContextManager[sqlite3.Connection]:
        """A short transaction of the archive, beside those that append. Raises sqlite3.Error, rolled back."""
        return self.writer.between_events()

    def set_note(self, name: str, value: bytes) -> None:
        self.writer.set_note(name, value)

    def destroy_keys(self, scopes: Sequence[str]) -> int:
        return keyring.destroy(connect(self.database), scopes, self.keys)

    def probe(self) -> None:
        self.writer.probe()

    # --- reading -------------------------------------------------------------------------------------
    def read(
        self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "", until: int | None = None
    ) -> list[Stored]:
        return self.reader.read(after, limit, topics=topics, stream=stream, until=until)

    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        return self.reader.read_stream(stream, after_version)

    def max_notification_id(self) -> int | None:
        return self.reader.newest() or None

    @property
    def first(self) -> int:
        return self.reader.first

    def position_at(self, time: int) -> int:
        return self.reader.position_at(time)

    def previous_hash(self, position: int) -> bytes:
        return self.reader.previous_hash(position)

    def note(self, name: str) -> bytes | None:
        return self.reader.note(name)


@contextmanager
def _errors_of_the_library() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise IntegrityError(error) from error
    except sqlite3.Error as error:
        raise OperationalError(error) from error
