"""Files that a library of this process holds POSIX locks on: SQLite does on its databases and what it keeps beside.

A process loses all such locks on a file as soon as it closes any descriptor of it (fcntl(2)), under whatever name. The
next program that opens the database, such as an audit, then takes it for unused: it cuts off the shared memory under
this process, which dies of SIGBUS, or deletes the write-ahead log that is written to
(sqlite.org/howtocorrupt.html, 2.2). Whoever opens files whose names come from elsewhere uses `looking_into`, or asks
`is_locked` first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

FileId = tuple[int, int]
"""Device and inode: what a file is, whatever its names."""

_locked: WeakKeyDictionary[object, Sequence[Path]] = WeakKeyDictionary()  # by who may hold locks on them
_kept: dict[FileId, int] = {}  # descriptors of such files, which are never closed
_guard = threading.Lock()


def file_id(found: os.stat_result) -> FileId:
    return found.st_dev, found.st_ino


def remember_locks(holder: object, files: Sequence[Path]) -> None:
    """For as long as the holder, such as a connection, is there. Before it opens them; they need not exist yet."""
    with _guard:
        _locked[holder] = files


def is_locked(found: os.stat_result) -> bool:
    """Whether it is one of them, under whatever name."""
    with _guard:
        paths = {path for files in _locked.values() for path in files}
    return any(file_id(found) == _id_at(path) for path in paths)


@contextmanager
def looking_into(path: Path, flags: int) -> Iterator[int]:
    """A descriptor of a file that may be one of them, which then stays open for good. Raises OSError."""
    with _guard:
        kept = _kept.get(_id_at(path) or (0, 0))
    if kept is not None:
        yield kept
        return
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        found = os.fstat(handle)
        if is_locked(found):
            with _guard:
                _kept[file_id(found)] = handle
        else:
            os.close(handle)


def _id_at(path: Path) -> FileId | None:
    try:
        return file_id(path.stat(follow_symlinks=False))
    except OSError:
        return None
