"""Files that a library of this process holds POSIX locks on: SQLite does on its databases and what it keeps beside.

A process loses all such locks on a file as soon as it closes any descriptor of it (fcntl(2)), under whatever name. The
next program that opens the database, such as an audit, then takes it for unused: it cuts off the shared memory under
this process, which dies of SIGBUS, or deletes the write-ahead log that is written to
(sqlite.org/howtocorrupt.html, 2.2). Whoever opens files whose names come from elsewhere uses `looking_into`, or asks
`is_locked` first.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

FileId = tuple[int, int]
"""Device and inode: what a file is, whatever its names."""

_locked: WeakKeyDictionary[object, Sequence[Path]] = WeakKeyDictionary()  # by who may hold locks on them
_open: dict[FileId, list[int]] = {}  # descriptors that are looked into, or stay open while there may be locks
_looking: Counter[FileId] = Counter()
_guard = threading.RLock()  # nobody begins to hold locks on a file between the look whether anybody does and its close


def file_id(found: os.stat_result) -> FileId:
    return found.st_dev, found.st_ino


def remember_locks(holder: object, files: Sequence[Path]) -> None:
    """For as long as the holder, such as a connection, is there. Before it locks them; they need not exist yet."""
    with _guard:
        _locked[holder] = files
        _close_unlocked()


def is_locked(file: FileId) -> bool:
    """Whether it is one of them, under whatever name."""
    with _guard:
        paths = {path for files in _locked.values() for path in files}
    return any(file == _id_at(path) for path in paths)


@contextmanager
def unopened(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Where to open what lies there now, whatever is put in its place, and what it is; links are not followed. Until
    then it is not opened: a FIFO would hold us, or its writer would take us for a reader; to open some devices is to
    use them. Raises OSError."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)  # which has no part in locks
    try:
        yield Path(f"/proc/self/fd/{handle}"), os.fstat(handle)
    finally:
        os.close(handle)


@contextmanager
def looking_into(path: Path, flags: int) -> Iterator[int]:
    """A descriptor of a regular file that may be one of them. Raises OSError."""
    with unopened(path) as (found, status):
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        file = file_id(status)
        handle = _looked_into(file, flags) or _open_to_look(file, os.open(found, flags | os.O_CLOEXEC))
    try:
        yield handle
    finally:
        with _guard:
            _looking[file] -= 1
            _close_unlocked()


def _looked_into(file: FileId, flags: int) -> int | None:
    """A descriptor that is there already, and for the same: who is to write can't by one that only reads."""
    with _guard:
        for handle in _open.get(file, []):
            if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == flags & os.O_ACCMODE:
                _looking[file] += 1
                return handle
        return None


def _open_to_look(file: FileId, handle: int) -> int:
    with _guard:
        _open.setdefault(file, []).append(handle)
        _looking[file] += 1
    return handle


def _close_unlocked() -> None:
    for file in [file for file in _open if not _looking[file] and not is_locked(file)]:
        for handle in _open.pop(file):
            os.close(handle)
    for file in [file for file, lookers in _looking.items() if not lookers]:
        del _looking[file]


def _id_at(path: Path) -> FileId | None:
    try:
        return file_id(path.stat(follow_symlinks=False))
    except OSError:
        return None
