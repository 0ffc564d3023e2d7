"""The views' file, which may break, be lost or belong to others: what an error of SQLite's means for it, and how one
that holds no views is set aside. Nothing is lost with it: views are made from the log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dms.database import connect
from dms.errors import LogUnavailable

log = logging.getLogger(__name__)

KEPT_ASIDE = 3  # files that were set aside; the oldest goes
BESIDE = ("-wal", "-shm", "-journal")
PASSING = {
    sqlite3.SQLITE_AUTH, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY,
}  # fmt: skip
"""Primary result codes that say nothing about what the file holds. Source: sqlite.org/rescode.html"""
OUR_TABLES = {
    "view": ["name", "version", "position", "hash"],
    "snapshot": ["name", "position", "rows"],
    "left_out": ["name", "position", "topic", "error", "events"],
}
_STATE = """
CREATE TABLE IF NOT EXISTS view (name TEXT PRIMARY KEY, version INTEGER, position INTEGER, hash BLOB);
CREATE TABLE IF NOT EXISTS snapshot (name TEXT, position INTEGER, rows BLOB, PRIMARY KEY (name, position));
CREATE TABLE IF NOT EXISTS left_out (
    name TEXT PRIMARY KEY, position INTEGER, topic TEXT, error TEXT, events INTEGER
);
"""


class Damaged(LogUnavailable):
    """The file does not hold our views; it is to be set aside and made anew."""


def is_of_the_value(error: Exception) -> bool:
    """Whether it says that a value can't be stored, and nothing of the file."""
    return isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.DataError)


def meaning(error: Exception, database: Path) -> LogUnavailable:
    """What an error of the file means: that it is Damaged, or that it has to be waited for."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error.__cause__, OSError) or (code is not None and code & 0xFF in PASSING):
        return LogUnavailable(f"{database} can't be read or written just now: {error}")
    return Damaged(f"{database} does not hold what it should: {error}")


def open_database(database: Path) -> sqlite3.Connection:
    """Made when it is missing. Blocking. Raises Damaged, LogUnavailable."""
    try:
        if database.exists() and not (database.is_file() and os.access(database, os.R_OK | os.W_OK)):
            raise Damaged(f"{database} is not a file that can be read and written")
    except OSError as error:
        raise LogUnavailable(f"{database} can't be opened: {error}") from error
    if not database.exists():
        forget_beside(database)
    try:
        connection = connect(database)
    except sqlite3.Error as error:
        raise meaning(error, database) from error
    try:
        _prepare(connection, database)
    except BaseException as error:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise meaning(error, database) from error
        if isinstance(error, OSError):
            raise LogUnavailable(f"{database} can't be opened: {error}") from error
        raise
    return connection


def open_to_read(database: Path) -> sqlite3.Connection:
    """One that is open already. Blocking. Raises Damaged, LogUnavailable."""
    try:
        connection = connect(database, read_only=True)
        connection.execute("PRAGMA temp_store = MEMORY")  # rows of past moments belong in no other file
    except sqlite3.Error as error:
        raise meaning(error, database) from error
    return connection


def _prepare(connection: sqlite3.Connection, database: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # Lost at a power cut are at most views of events that the log still has: they are folded again.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")  # an erased person must not live on in free pages
    [(found,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != "ok":
        raise Damaged(f"{database} is damaged: {found}")
    others = sorted(_foreign(connection))
    if others:
        raise Damaged(f"{database} holds tables of another program: {', '.join(others[:5])}")
    connection.executescript(_STATE)


def _foreign(connection: sqlite3.Connection) -> Iterator[str]:
    for kind, name in connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')"):
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{name.replace(chr(34), chr(34) * 2)}")')]
        ours = name.startswith("view_") and columns[:1] == ["key"] and "body" in columns
        if not (name.startswith("sqlite_") or (kind == "table" and (ours or OUR_TABLES.get(name) == columns))):
            yield str(name)


def identity(database: Path) -> tuple[int, int] | None:
    """Of the file that stands there now; None for none."""
    try:
        found = database.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def forget_beside(database: Path) -> None:
    """The write-ahead log of a file that is gone must not be taken for the next one's: they would mix. Blocking."""
    try:
        for name in BESIDE:
            database.with_name(database.name + name).unlink(missing_ok=True)
    except OSError as error:
        raise LogUnavailable(f"what is left of {database} can't be removed: {error}") from error


def set_aside(database: Path) -> Path:
    """Where it is now. Blocking. Raises LogUnavailable when it can't be moved."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = database.with_name(f"{database.name}.damaged-{time}")
    try:
        database.rename(aside)
        for name in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                database.with_name(database.name + name).rename(aside.with_name(aside.name + name))
    except OSError as error:
        raise LogUnavailable(f"{database} is damaged and can't be set aside: {error}; remove it") from error
    forget_aside(database, KEPT_ASIDE)
    return aside


def forget_aside(database: Path, kept: int = 0) -> None:
    """Removes what was set aside but for the newest. Folders stay: they were never ours. Blocking."""
    found = sorted(p for p in database.parent.glob(f"{database.name}.damaged-*") if p.is_file())
    whole = [path for path in found if not path.name.endswith(BESIDE)]
    for old in whole[: max(0, len(whole) - kept)]:
        for path in (old, *(old.with_name(old.name + name) for name in BESIDE)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s can't be removed: %s", path, error)
