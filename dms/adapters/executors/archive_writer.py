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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dms.adapters.executors.workspace_archive import DEPTH, NAME_BYTES, PATH_BYTES, TOP, is_suspicious
from dms.disk import private, publish
from dms.errors import ArchiveRefused, ExecutorUnavailable

SPARE_BYTES = 256 * 1024 * 1024  # of the disk, left for the event log and others
_FAST, _STORED = 1, 0  # stored: for content so regular that its archive would look like a bomb

Item = TypeVar("Item")
Add = Callable[[tarfile.TarFile, Item], None]
"""Puts one file or folder into the archive."""


class Changed(Exception):
    """The job wrote what was being read."""


class Stopped(Exception):
    """Nobody waits for the archive any more."""


def write_archive(
    items: Sequence[Item], content_bytes: int, max_bytes: int, into: Path, add: Add[Item], stopped: threading.Event
) -> tuple[str, int]:
    """(sha256, size in bytes) of the archive, which appears at `into` whole or not at all. content_bytes: of all files
    together; max_bytes: that they may have when they have grown meanwhile. Raises Stopped, OSError,
    ExecutorUnavailable for want of disk, and what `add` raises."""
    check_room(into, content_bytes)
    part = into.with_name(f"{into.name}.part")
    try:
        sha256, size = _write(items, max_bytes, part, _FAST, add, stopped)
        if is_suspicious(content_bytes, size):
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
    info.type, info.mode, info.mtime, info.size = kind, mode & 0o777, max(int(mtime), 0), size
    return info


def can_be_named(parts: tuple[str, ...]) -> bool:
    """Whether `workspace_archive` takes such a name back."""
    path = "/".join((TOP, *parts))
    if any("\ud800" <= c <= "\udfff" for c in path):
        return False
    return len(parts) < DEPTH and len(path.encode()) <= PATH_BYTES and len(parts[-1].encode()) <= NAME_BYTES


def _write(
    items: Sequence[Item], max_bytes: int, part: Path, level: int, add: Add[Item], stopped: threading.Event
) -> tuple[str, int]:
    room = max_bytes + len(items) * 4 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE + max_bytes // 1000
    with _private(part) as file:
        out = _Hashing(file, room, stopped)
        with (
            gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=level, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.addfile(header((), 0o755, tarfile.DIRTYPE))
            for item in items:
                add(tar, item)
        file.flush()
        os.fsync(file.fileno())
        return out.sha256.hexdigest(), out.size


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
