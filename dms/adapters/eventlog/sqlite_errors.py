"""SQLite's errors as the seam tells them (see recorder.py): eventsourcing's own, whatever the database."""

from __future__ import annotations

import functools
import inspect
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from eventsourcing.persistence import IntegrityError, InternalError, OperationalError, PersistenceError

from dms.adapters.eventlog.recorder import LogBusy

C = TypeVar("C", bound=type[Any])

_OF_CONTENT = {
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,  # ERROR: no such table, among others
}  # fmt: skip
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNREADABLE = {
    sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_DATA,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}  # fmt: skip

_NO_TEXT = "Could not decode to UTF-8"  # Source: CPython, Modules/_sqlite/cursor.c


def errors_of_the_library(part: C) -> C:
    """Of a class that asks SQLite: holds for all its public methods."""
    for name, method in list(vars(part).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(part, name, _called(method))
    return part


def at_the_seam(error: sqlite3.Error) -> PersistenceError:
    """What an error means there: a conflict, something that passes, or that what is kept can't be read or written."""
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityError(str(error))
    if is_busy(error):
        return LogBusy(f"another program holds it: {error}")
    return OperationalError(str(error)) if _is_passing(error) else InternalError(str(error))


def is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BUSY


def _called(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return method(*args, **named)
        except sqlite3.Error as error:
            raise at_the_seam(error) from error

    return call


def _is_passing(error: sqlite3.Error) -> bool:
    """Whether it says nothing of what is on the disk: that is locked or full, descriptors or memory are short."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own, as of a closed connection
        return not str(error).startswith(_NO_TEXT)
    return code & 0xFF not in _OF_CONTENT and code not in _UNREADABLE
