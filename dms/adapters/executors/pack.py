"""Writing the archive of a workspace that a stranger's job fills, also while the job runs.

Nothing is followed: each folder is opened from the one above it, links, devices, pipes and sockets are
left out. The job is not paused. Each file in the archive is one state of it (a file that only grew is cut
at the length it had); between files there is no such promise, so a job that needs one writes a file of
another name and renames it, as it must anyway for the end that may come at any moment.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from dms.adapters.executors.archive_writer import (
    Changed,
    Stopped,
    can_be_packed,
    check_size,
    header,
    until_stopped,
    write_archive,
)
from dms.adapters.executors.workspace_archive import ENTRIES
from dms.application.ports.executor import PackedWorkspace
from dms.domain.results import EVERYTHING, Selection, chosen
from dms.errors import ArchiveRefused, ExecutorUnavailable

TRIES = 3


class _Found(Struct, frozen=True):
    """One file or folder. parts: below the workspace."""

    parts: tuple[str, ...]
    status: os.stat_result

    @property
    def folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def pack(
    workspace: Path,
    into: Path,
    max_bytes: int,
    known_state: str,
    stopped: threading.Event,
    selection: Selection = EVERYTHING,
) -> PackedWorkspace | None:
    """None: nothing of it is selected, or it is still in the known state. `into` appears whole or not at all.
    Raises ArchiveRefused (too large), ExecutorUnavailable (the disk; a job that writes all the time)."""
    try:
        for _ in range(TRIES):
            try:
                return _pack_once(workspace, into, max_bytes, known_state, stopped, selection)
            except Changed:
                continue
        raise ExecutorUnavailable(f"the workspace changed during each of {TRIES} readings")
    except Stopped:
        return None
    except OSError as error:
        raise ExecutorUnavailable(f"the workspace can't be archived: {error.strerror or error}") from error


def _pack_once(
    workspace: Path, into: Path, max_bytes: int, known_state: str, stopped: threading.Event, selection: Selection
) -> PackedWorkspace | None:
    with _root(workspace) as root:
        found, others = _walk(root)
        files = [item for item in found if not item.folder]
        taken = chosen(selection, [item.parts for item in files])
        if taken is not None:
            found = files = [item for item in until_stopped(files, stopped) if taken(item.parts)]
            others = [parts for parts in until_stopped(others, stopped) if taken(parts)]
        content = sum(item.status.st_size for item in files)
        check_size(content, max_bytes)
        state = _state(found)
        if not found or state == known_state:
            return None
        sha256, size = write_archive(found, content, max_bytes, into, lambda tar, item: _add(tar, root, item), stopped)
    return PackedWorkspace(size_bytes=size, sha256=sha256, files=len(files), skipped=len(others), state=state)


def _walk(root: int) -> tuple[list[_Found], list[tuple[str, ...]]]:
    """All files and folders, in a fixed order, and what else there is."""
    found: list[_Found] = []
    others: list[tuple[str, ...]] = []
    pending: list[tuple[str, ...]] = [()]
    while pending:
        above = pending.pop()
        for name, status in _children(root, above):
            parts = (*above, name)
            if not _is_taken(parts, status):
                others.append(parts)
                continue
            found.append(_Found(parts, status))
            if len(found) + len(others) > ENTRIES:
                raise ArchiveRefused(f"the workspace holds more than {ENTRIES} files and folders")
            if stat.S_ISDIR(status.st_mode):
                pending.append(parts)
    return sorted(found, key=lambda item: item.parts), others


def _children(root: int, parts: tuple[str, ...]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with _folder(root, parts) as folder, os.scandir(folder) as children:
            for child in children:
                yield child.name, os.stat(child.name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Changed from error


def _is_taken(parts: tuple[str, ...], status: os.stat_result) -> bool:
    return (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)) and can_be_packed(parts)


def _state(found: list[_Found]) -> str:
    """Changes when any content does."""
    digest = hashlib.sha256()
    for item in found:
        status = item.status
        times = 0 if item.folder else (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(repr((item.parts, status.st_mode, status.st_ino, times)).encode())
    return digest.hexdigest()


def _add(tar: tarfile.TarFile, root: int, item: _Found) -> None:
    if item.folder:
        tar.addfile(header(item.parts, item.status.st_mode, tarfile.DIRTYPE, item.status.st_mtime))
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with _folder(root, item.parts[:-1]) as folder:
            handle = os.open(item.parts[-1], flags, dir_fd=folder)
    except OSError as error:
        raise Changed from error
    with os.fdopen(handle, "rb", buffering=0) as file:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise Changed
        base = item.status if before.st_ino == item.status.st_ino else before  # else: another was renamed to it
        info = header(item.parts, base.st_mode, tarfile.REGTYPE, base.st_mtime, base.st_size)
        try:
            tar.addfile(info, file)
        except OSError as error:
            if error.errno is None:  # tarfile's own: the file ended early
                raise Changed from error
            raise
        after = os.fstat(handle)
    grew = after.st_size > base.st_size
    if not grew and (after.st_size, after.st_mtime_ns) != (base.st_size, base.st_mtime_ns):
        raise Changed


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
