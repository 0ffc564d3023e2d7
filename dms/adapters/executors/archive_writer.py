"""Writing the archive of a workspace: a tar in one gzip member, everything under `workspace/`. The same content gives
the same bytes. Who has read the workspace says how each file gets in."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dms.adapters.executors.workspace_archive import (
    BLOCK,
    ENTRIES,
    LATEST_TIME,
    PATH_BYTES,
    TOP,
    can_be_named,
    is_suspicious,
)
from dms.disk import private, publish
from dms.errors import ArchiveRefused, ExecutorUnavailable

SPARE_BYTES = 256 * 1024 * 1024  # of the disk, left for the event log and others
HEADERS_OF_A_FILE = 4 * BLOCK + 2 * PATH_BYTES  # bytes
_FAST, _STORED = 1, 0  # stored: for content so regular that its archive would look like a bomb

Item = TypeVar("Item")
Add = Callable[[tarfile.TarFile, Item], None]
"""Puts one file or folder into the archive."""


class Changed(Exception):
    """The job wrote what was being read."""


class Stopped(Exception):
    """Nobody waits for the archive any more."""


class _TooRegular(Exception):
    """What was written so far would be taken for a bomb."""


def until_stopped(items: Iterable[Item], stopped: threading.Event) -> Iterator[Item]:
    """Raises Stopped once nobody waits any more."""
    for item in items:
        if stopped.is_set():
            raise Stopped
        yield item


def write_archive(
    items: Sequence[Item], content_bytes: int, max_bytes: int, into: Path, add: Add[Item], stopped: threading.Event
) -> tuple[str, int]:
    """(sha256, size in bytes) of the archive, which appears at `into` whole or not at all. content_bytes: of all files
    together; max_bytes: that they may have when they have grown meanwhile. Raises Stopped, OSError,
    ExecutorUnavailable for want of disk, and what `add` raises."""
    if len(items) > ENTRIES:
        raise ArchiveRefused(f"the workspace holds more than {ENTRIES} files and folders")
    check_room(into, content_bytes)
    part = into.with_name(f"{into.name}.part")
    try:
        try:
            sha256, size = _write(items, max_bytes, part, _FAST, add, stopped)
        except _TooRegular:
            sha256, size = _write(items, max_bytes, part, _STORED, add, stopped)
        publish(part, into)
    finally:
        part.unlink(missing_ok=True)
    return sha256, size


def check_room(into: Path, content_bytes: int) -> None:
    """Raises ExecutorUnavailable when so much can't be written next to `into`."""
    if shutil.disk_usage(into.parent).free < content_bytes + SPARE_BYTES:
        raise ExecutorUnavailable(f"the disk has no room for {content_bytes / 2**20:.0f} MiB of a job's files")


def check_size(content_bytes: int, max_bytes: int) -> None:
    """Raises ArchiveRefused."""
    if content_bytes > max_bytes:
        raise ArchiveRefused(
            f"the workspace holds more than {max_bytes // 2**20} MiB, the most that this provider keeps of one"
        )


def header(parts: tuple[str, ...], mode: int, kind: bytes, mtime: float = 0, size: int = 0) -> tarfile.TarInfo:
    """Of one entry. parts: below the workspace. mtime: Unix seconds."""
    info = tarfile.TarInfo("/".join((TOP, *parts)))
    info.type, info.mode, info.size = kind, mode & 0o777, size
    info.mtime = min(max(int(mtime), 0), LATEST_TIME)
    return info


def can_be_packed(parts: tuple[str, ...]) -> bool:
    """Whether `workspace_archive` takes such a name back. parts: below the workspace."""
    return can_be_named((TOP, *parts))


def _write(
    items: Sequence[Item], max_bytes: int, part: Path, level: int, add: Add[Item], stopped: threading.Event
) -> tuple[str, int]:
    room = (max_bytes + (len(items) + 1) * HEADERS_OF_A_FILE + tarfile.RECORDSIZE) * 1001 // 1000
    with _private(part) as file:
        out = _Hashing(file, room, stopped)
        with (
            gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=level, mtime=0) as zipped,
            tarfile.open(fileobj=_Unsuspicious(zipped, out), mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.addfile(header((), 0o755, tarfile.DIRTYPE))
            for item in items:
                add(tar, item)
        file.flush()
        os.fsync(file.fileno())
        return out.sha256.hexdigest(), out.size


class _Unsuspicious(io.RawIOBase):
    """Passes on what is to be compressed, as long as its reader would not take it for a bomb, at any place of it."""

    def __init__(self, zipped: gzip.GzipFile, out: _Hashing) -> None:
        self._zipped, self._out = zipped, out
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile writes bytes
        self._size += len(data)
        self._zipped.write(data)
        if is_suspicious(self._size, self._out.size):
            raise _TooRegular
        return len(data)


class _Hashing(io.RawIOBase):
    """Counts, digests and bounds what is written, and notices that it is no longer wanted."""

    def __init__(self, file: io.BufferedWriter, room: int, stopped: threading.Event) -> None:
        self._file, self._room, self._stopped = file, room, stopped
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # gzip writes bytes
        if self._stopped.is_set():
            raise Stopped
        self.size += len(data)
        if self.size > self._room:
            raise Changed
        self.sha256.update(data)
        self._file.write(data)
        return len(data)


@contextmanager
def _private(path: Path) -> Iterator[io.BufferedWriter]:
    handle = private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
    with os.fdopen(handle, "wb") as file:
        yield file
