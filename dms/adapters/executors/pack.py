"""Writing the archive of a workspace that a stranger's job fills, also while the job runs.

Nothing is followed: each folder is opened from the one above it, links, devices, pipes and sockets are
left out. The job is not paused. Each file in the archive is one state of it (a file that only grew is cut
at the length it had); between files there is no such promise, so a job that needs one writes a file of
another name and renames it, as it must anyway for the end that may come at any moment.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from dms.adapters.executors.workspace_archive import DEPTH, ENTRIES, NAME_BYTES, PATH_BYTES, TOP, is_suspicious
from dms.application.ports import PackedWorkspace
from dms.disk import private, publish
from dms.errors import ArchiveRefused, ExecutorUnavailable

TRIES = 3
SPARE_BYTES = 256 * 1024 * 1024  # of the disk, left for the event log and others
_FAST, _STORED = 1, 0  # stored: for content so regular that its archive would look like a bomb


class _Found(Struct, frozen=True):
    """One file or folder. parts: below the workspace."""

    parts: tuple[str, ...]
    status: os.stat_result

    @property
    def folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class _Changed(Exception):
    """The job wrote what was being read."""


class _Stopped(Exception):
    """Nobody waits for the archive any more."""


def pack(
    workspace: Path, into: Path, max_bytes: int, known_state: str, stopped: threading.Event
) -> PackedWorkspace | None:
    """None: empty, or still in the known state. `into` appears whole or not at all.
    Raises ArchiveRefused (too large), ExecutorUnavailable (the disk; a job that writes all the time)."""
    part = into.with_name(f"{into.name}.part")
    try:
        for _ in range(TRIES):
            try:
                return _pack_once(workspace, part, into, max_bytes, known_state, stopped)
            except _Changed:
                continue
        raise ExecutorUnavailable(f"the workspace changed during each of {TRIES} readings")
    except _Stopped:
        return None
    except OSError as error:
        raise ExecutorUnavailable(f"the workspace can't be archived: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _pack_once(
    workspace: Path, part: Path, into: Path, max_bytes: int, known_state: str, stopped: threading.Event
) -> PackedWorkspace | None:
    with _root(workspace) as root:
        found, skipped = _walk(root, max_bytes)
        state = _state(found)
        if not found or state == known_state:
            return None
        content = sum(item.status.st_size for item in found if not item.folder)
        if shutil.disk_usage(into.parent).free < content + SPARE_BYTES:
            raise ExecutorUnavailable(f"the disk has no room for a checkpoint of {content / 2**20:.0f} MiB")
        sha256, size = _write(root, found, part, _FAST, max_bytes, stopped)
        if is_suspicious(content, size):
            sha256, size = _write(root, found, part, _STORED, max_bytes, stopped)
    publish(part, into)
    files = sum(not item.folder for item in found)
    return PackedWorkspace(size_bytes=size, sha256=sha256, files=files, skipped=skipped, state=state)


def _walk(root: int, max_bytes: int) -> tuple[list[_Found], int]:
    """What goes into the archive, in a fixed order, and how much else there is."""
    found: list[_Found] = []
    skipped = size = 0
    pending: list[tuple[str, ...]] = [()]
    while pending:
        above = pending.pop()
        for name, status in _children(root, above):
            parts = (*above, name)
            if not _is_taken(parts, status):
                skipped += 1
                continue
            found.append(_Found(parts, status))
            if len(found) > ENTRIES:
                raise ArchiveRefused(f"the workspace holds more than {ENTRIES} files and folders")
            if stat.S_ISDIR(status.st_mode):
                pending.append(parts)
            else:
                size += status.st_size
            if size > max_bytes:
                raise ArchiveRefused(
                    f"the workspace holds more than {max_bytes // 2**20} MiB (this provider's job.checkpoint_max_mb)"
                )
    return sorted(found, key=lambda item: item.parts), skipped


def _children(root: int, parts: tuple[str, ...]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with _folder(root, parts) as folder, os.scandir(folder) as children:
            for child in children:
                yield child.name, os.stat(child.name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Changed from error


def _is_taken(parts: tuple[str, ...], status: os.stat_result) -> bool:
    """As `archive` takes it back."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return False
    path = "/".join((TOP, *parts))
    if any("\ud800" <= c <= "\udfff" for c in path):
        return False
    return len(parts) < DEPTH and len(path.encode()) <= PATH_BYTES and len(parts[-1].encode()) <= NAME_BYTES


def _state(found: list[_Found]) -> str:
    """Changes when any content does."""
    digest = hashlib.sha256()
    for item in found:
        status = item.status
        times = 0 if item.folder else (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(repr((item.parts, status.st_mode, status.st_ino, times)).encode())
    return digest.hexdigest()


def _write(
    root: int, found: list[_Found], part: Path, level: int, max_bytes: int, stopped: threading.Event
) -> tuple[str, int]:
    """(sha256, size) of the archive. The same content gives the same bytes."""
    room = max_bytes + len(found) * 4 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE + max_bytes // 1000
    with _private(part) as file:
        out = _Hashing(file, room, stopped)
        with (
            gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=level, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.addfile(_info((), 0o755, tarfile.DIRTYPE))
            for item in found:
                if item.folder:
                    tar.addfile(_info(item.parts, item.status.st_mode, tarfile.DIRTYPE, item.status.st_mtime))
                else:
                    _add_file(tar, root, item)
        file.flush()
        os.fsync(file.fileno())
        return out.sha256.hexdigest(), out.size


def _add_file(tar: tarfile.TarFile, root: int, item: _Found) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with _folder(root, item.parts[:-1]) as folder:
            handle = os.open(item.parts[-1], flags, dir_fd=folder)
    except OSError as error:
        raise _Changed from error
    with os.fdopen(handle, "rb", buffering=0) as file:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise _Changed
        base = item.status if before.st_ino == item.status.st_ino else before  # else: another was renamed to it
        info = _info(item.parts, base.st_mode, tarfile.REGTYPE, base.st_mtime)
        info.size = base.st_size
        try:
            tar.addfile(info, file)
        except OSError as error:
            if error.errno is None:  # tarfile's own: the file ended early
                raise _Changed from error
            raise
        after = os.fstat(handle)
    grew = after.st_size > base.st_size
    if not grew and (after.st_size, after.st_mtime_ns) != (base.st_size, base.st_mtime_ns):
        raise _Changed


def _info(parts: tuple[str, ...], mode: int, kind: bytes, mtime: float = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo("/".join((TOP, *parts)))
    info.type, info.mode, info.mtime = kind, mode & 0o777, max(int(mtime), 0)
    return info


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
            raise _Stopped
        self.size += len(data)
        if self.size > self._room:
            raise _Changed
        self.sha256.update(data)
        self._file.write(data)
        return len(data)


@contextmanager
def _root(workspace: Path) -> Iterator[int]:
    handle = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _folder(root: int, parts: tuple[str, ...]) -> Iterator[int]:
    handle = os.dup(root)
    try:
        for part in parts:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _private(path: Path) -> Iterator[io.BufferedWriter]:
    handle = private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
    with os.fdopen(handle, "wb") as file:
        yield file
