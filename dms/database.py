"""The one place that opens an SQLite database, whatever its path looks like.

In a URI `?` and `#` end the path and `%hh` is one byte of it, so every byte of ours is quoted. A file that we make is
its user's alone; SQLite gives the files beside it (-wal, -shm) the same mode. None of ours is ever opened and closed
besides SQLite's own handles: that would drop SQLite's locks of the whole process (`locked_files`).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from dms.locked_files import remember_locks

FILE_MODE = 0o600
BUSY_SECONDS = 5.0
SUFFIXES = ("-wal", "-shm")  # of the files that SQLite keeps beside a database


class _Connection(sqlite3.Connection):
    """One that can be kept account of for as long as it is there."""


def connect(database: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode; may be handed between threads, never shared by two at once.

    For writing, a missing file is made. For reading it works on a read-only medium too, and on a file that can't be
    written. Raises sqlite3.Error, with a sentence when it isn't SQLite's to tell."""
    try:
        if read_only:
            _check_kind(database.stat(), database)
            return _connect_to_read(database)
        make_private(database)
        return _open(database, "rwc")
    except OSError as error:
        raise sqlite3.OperationalError(f"{database} can't be opened: {error.strerror}") from error


def connect_in_memory() -> sqlite3.Connection:
    """A database of its own, in autocommit mode, that is gone with its connection."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def emptied_journal(connection: sqlite3.Connection) -> bool:
    """Brings what the write-ahead log holds into the database, and empties it, which has older copies of the pages.
    Tries once, since nobody can write meanwhile: False while somebody reads it."""
    ((waits_ms,),) = connection.execute("PRAGMA busy_timeout").fetchall()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout = {waits_ms}")


def real_path(database: Path) -> Path:
    """The file that SQLite opens: it follows links, and keeps its other files beside that."""
    return Path(os.path.realpath(database))


def beside(database: Path, suffix: str) -> Path:
    """A file next to a database, named after it."""
    return database.with_name(database.name + suffix)


def make_private(database: Path) -> None:
    """Makes the file if it isn't there, and takes from others what they may do with it. Raises OSError."""
    real = real_path(database)
    try:
        made = os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        pass
    else:
        try:
            os.fchmod(made, FILE_MODE)
        finally:
            os.close(made)
        return
    for file in (real, *(beside(real, suffix) for suffix in SUFFIXES)):
        try:
            found = file.stat()
            if file == real:
                _check_kind(found, database)
            if found.st_mode & 0o077 and found.st_uid == os.geteuid():
                file.chmod(found.st_mode & 0o700)
        except FileNotFoundError:
            continue


def _open(database: Path, mode: str) -> sqlite3.Connection:
    path = quote(os.fsencode(database))
    # A path after two slashes would begin with a host's name.
    uri = f"file:{'//' if path.startswith('/') else ''}{path}?mode={mode}"
    made = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS, factory=_Connection
    )
    real = real_path(database)
    remember_locks(made, [real, *(beside(real, suffix) for suffix in SUFFIXES)])  # SQLite opens them at its first use
    return made


def _check_kind(found: os.stat_result, database: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(database))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(database))


def _connect_to_read(database: Path) -> sqlite3.Connection:
    """A database with a write-ahead log is read with the help of a file that SQLite makes beside it. Where it can't,
    the file is read as it is, if nobody writes it and no commits wait in the write-ahead log."""
    real = real_path(database)
    if _may_write(real.parent) and _may_write(real):
        return _open(database, "ro")
    waiting = _size(beside(real, "-wal"))
    if waiting or beside(real, "-shm").exists():  # somebody writes it, or was killed
        try:
            return _tried(_open(database, "ro"))
        except sqlite3.OperationalError as error:
            if waiting:
                raise sqlite3.OperationalError(
                    f"{beside(real, '-wal')} holds commits that can't be read where nothing can be written ({error}): "
                    f"copy {real.name} and {real.name}-wal to a folder of your own, and read them there"
                ) from error
    return _open(database, "ro&immutable=1")


def _tried(connection: sqlite3.Connection) -> sqlite3.Connection:
    """SQLite opens a file when it is first read."""
    try:
        with closing(connection.execute("SELECT count(*) FROM sqlite_schema")) as rows:
            rows.fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
