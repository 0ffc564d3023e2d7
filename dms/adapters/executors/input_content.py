"""What is in an input: a file as it is, or what an archive holds, read as strictly as the archive of a workspace. No
link, no device, no name that leads elsewhere; bounded in bytes, entries and depth."""

from __future__ import annotations

import os
import stat
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dms.adapters.executors.trees import remove_tree
from dms.adapters.executors.workspace_archive import (
    ENTRIES,
    LATEST_TIME,
    READ_BYTES,
    TOO_LONG,
    ArchiveReader,
    Content,
    Entry,
    Owner,
    Target,
    can_be_named,
    is_suspicious,
    opened,
)
from dms.application.ports.executor import InputFile
from dms.disk import append_to, is_short, make_folder
from dms.errors import ArchiveRefused, ExecutionError, ExecutorUnavailable

FILE_MODE, FOLDER_MODE = 0o644, 0o755
DIRECTORY_BYTES = 32 * 1024 * 1024  # of a zip's table of contents, which is read as a whole
_END = struct.Struct("<4s4H2LH")  # end of central directory record. Source: PKWARE APPNOTE, 4.3.16
_END_64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR_64 = struct.Struct("<4sLQL")  # 4.3.15
_LONGEST_COMMENT = 65_535
_KINDS_OF_ZIP = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others a few bytes may ask for gigabytes of memory


def place_input(
    workspace: Path, stage: Path, marks: Path, given: InputFile, owner: Owner | None, stopped: threading.Event
) -> None:
    """As the executor's `put`; no link is followed. stage: a folder of ours beside the workspace, made anew. marks: one
    there that tells which inputs were put into this very workspace. Blocking. Raises ArchiveRefused; ExecutionError
    when it does not fit; ExecutorUnavailable."""
    *above, name = given.place.split("/")
    mark = marks / str(given.number)
    if mark.exists():
        return
    try:
        remove_tree(stage)
        make_folder(stage)
        with Target(workspace, owner) as target, target.folder(tuple(above)) as parent:
            with (
                input_content(given.source, name, given.unpack, given.max_bytes) as content,
                Target(stage, owner) as staged,
            ):
                for entry in content.entries():
                    staged.write(entry, _Stoppable(content, stopped))
            with _opened_folder(stage) as from_stage:
                _move_over(name, from_stage, parent)
        make_folder(marks)
        append_to(mark).close()
    except OSError as error:
        kind = ExecutorUnavailable if is_short(error) else ExecutionError
        raise kind(f"{given.place} can't be put into the workspace: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            remove_tree(stage)


def placed_inputs(marks: Path) -> Set[int]:
    """The numbers of those that `place_input` has placed."""
    try:
        return {int(mark.name) for mark in marks.iterdir()}
    except FileNotFoundError:
        return frozenset()


@contextmanager
def input_content(source: Path, name: str, unpack: str, max_bytes: int) -> Iterator[Content]:
    """All of it at or below `name`. unpack: as in the request."""
    with opened(source, "input") as file:
        if not unpack:
            yield _PlainFile(file, name)
        elif unpack == "zip":
            yield _Below(name, _ZipReader(file, max_bytes))
        else:
            yield _Below(name, ArchiveReader(file, max_bytes, top="", zipped=unpack == "tar.gz"))


def _move_over(name: str, source: int, target: int) -> None:
    """A file takes the place of a file or link; what a folder holds goes into the folder that is there. Raises OSError
    where one is a folder, and the other is not."""
    moves = True
    with suppress(FileNotFoundError):
        there = os.stat(name, dir_fd=target, follow_symlinks=False)
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)
        moves = not is_folder and not stat.S_ISDIR(there.st_mode)
    if moves:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        return
    with _opened_folder(name, source) as inner_source, _opened_folder(name, target) as inner_target:
        for inner in os.listdir(inner_source):  # noqa: PTH208  # of a descriptor
            _move_over(inner, inner_source, inner_target)


@contextmanager
def _opened_folder(path: str | Path, above: int | None = None) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        yield handle
    finally:
        os.close(handle)


class _Stoppable:
    """Ends when nobody waits for it any more."""

    def __init__(self, content: Content, stopped: threading.Event) -> None:
        self._content, self._stopped = content, stopped

    def entries(self) -> Iterator[Entry]:
        return self._content.entries()

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._content.chunks():
            if self._stopped.is_set():
                raise ExecutorUnavailable("the filling of a workspace was ended")
            yield chunk


class _PlainFile:
    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def entries(self) -> Iterator[Entry]:
        found = os.fstat(self._file.fileno())
        yield Entry(parts=(self._name,), folder=False, mode=FILE_MODE, mtime=int(found.st_mtime), size=found.st_size)

    def chunks(self) -> Iterator[bytes]:
        while chunk := self._file.read(READ_BYTES):
            yield chunk


class _Below:
    """What an archive holds, in a folder of that name."""

    def __init__(self, name: str, content: Content) -> None:
        self._name, self._content = name, content

    def entries(self) -> Iterator[Entry]:
        yield Entry(parts=(self._name,), folder=True, mode=FOLDER_MODE, mtime=int(time.time()), size=0)
        for entry in self._content.entries():
            if entry.parts:
                yield Entry(
                    parts=(self._name, *entry.parts),
                    folder=entry.folder,
                    mode=entry.mode,
                    mtime=entry.mtime,
                    size=entry.size,
                )

    def chunks(self) -> Iterator[bytes]:
        return self._content.chunks()


class _ZipReader:
    """`zipfile` reads the table of contents into memory, and follows it without a doubt: both are bounded here."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes
        self._size = os.fstat(file.fileno()).st_size
        _check_directory(file, self._size)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, zlib.error, ValueError, OverflowError, NotImplementedError) as error:
            raise ArchiveRefused(f"it is no zip archive: {error}") from error
        self._current: zipfile.ZipInfo | None = None

    def entries(self) -> Iterator[Entry]:
        found = self._zip.infolist()
        if len(found) > ENTRIES:
            raise ArchiveRefused(f"it has more than {ENTRIES} entries")
        total = sum(info.file_size for info in found)
        if total > self._max_bytes:
            raise ArchiveRefused(f"its content is larger than {self._max_bytes // 2**20} MiB")
        if is_suspicious(total, self._size):
            raise ArchiveRefused("it unpacks to far more than its size")
        seen: dict[tuple[str, ...], bool] = {}
        for info in found:
            entry = _zip_entry(info)
            _claim(entry, seen)
            self._current = info
            yield entry

    def chunks(self) -> Iterator[bytes]:
        if self._current is None:
            return
        try:
            with self._zip.open(self._current) as file:
                while chunk := file.read(READ_BYTES):
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            raise ArchiveRefused(f"entry {self._current.filename[:100]!r} can't be read: {error}") from error


def _zip_entry(info: zipfile.ZipInfo) -> Entry:
    shown = f"entry {info.filename[:100]!r}"
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if not info.filename:
        raise ArchiveRefused("an entry has no name")
    folder = info.is_dir()
    if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG):
        raise ArchiveRefused(f"{shown} is a link, a device or the like; only files and folders are taken")
    if info.flag_bits & 1:
        raise ArchiveRefused(f"{shown} is encrypted")
    if info.compress_type not in _KINDS_OF_ZIP:
        raise ArchiveRefused(f"{shown} is compressed in a way that is not taken; store or deflate it")
    default = FOLDER_MODE if folder else FILE_MODE
    return Entry(
        parts=_zip_parts(info.orig_filename, shown),
        folder=folder,
        mode=mode & 0o777 if kind else default,
        mtime=_time_of(info),
        size=0 if folder else info.file_size,
    )


def _zip_parts(name: str, shown: str) -> tuple[str, ...]:
    if name.startswith("/") or "\\" in name or "\0" in name:
        raise ArchiveRefused(f"{shown} has an absolute name, a backslash or a NUL in it")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ArchiveRefused(f"{shown} leaves its folder ('..')")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ArchiveRefused(f"{shown} has a name that is not UTF-8 text") from error
    if not can_be_named(parts):
        raise ArchiveRefused(f"{shown} {TOO_LONG}")
    return parts


def _claim(entry: Entry, seen: dict[tuple[str, ...], bool]) -> None:
    """Each name once; what is a file holds no others."""
    shown = f"entry {'/'.join(entry.parts)[:100]!r}"
    if not entry.parts and not entry.folder:
        raise ArchiveRefused("an entry has no name")
    if seen.get(entry.parts) is False or (entry.parts in seen and not entry.folder):
        raise ArchiveRefused(f"{shown} is there twice")
    for depth in range(1, len(entry.parts)):
        if seen.setdefault(entry.parts[:depth], True) is False:
            raise ArchiveRefused(f"{shown} is inside of a file")
    seen[entry.parts] = entry.folder


def _time_of(info: zipfile.ZipInfo) -> int:
    """Unix seconds. A zip has no time zone."""
    try:
        return min(max(int(time.mktime((*info.date_time, 0, 0, -1))), 0), LATEST_TIME)
    except (ValueError, OverflowError):
        return 0


def _check_directory(file: BinaryIO, size: int) -> None:
    """How large the table of contents says that it is, before anybody reads it. Raises ArchiveRefused."""
    tail_size = min(size, _END.size + _LONGEST_COMMENT)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveRefused("it is no zip archive: it has no table of contents")
    *_, entries, directory_bytes, _, _ = _END.unpack_from(tail, at)
    before = size - tail_size + at - _LOCATOR_64.size
    if before >= 0:
        entries, directory_bytes = _directory_64(file, before) or (entries, directory_bytes)
    file.seek(0)
    if entries > ENTRIES or directory_bytes > DIRECTORY_BYTES:
        raise ArchiveRefused(f"it has more than {ENTRIES} entries, or too long names")


def _directory_64(file: BinaryIO, locator_at: int) -> tuple[int, int] | None:
    """(entries, bytes) of a large archive's table; None when it is no large one."""
    file.seek(locator_at)
    signature, *_ = _LOCATOR_64.unpack(file.read(_LOCATOR_64.size))
    if signature != b"PK\x06\x07":
        return None
    file.seek(max(locator_at - _END_64.size, 0))
    record = file.read(_END_64.size)
    if len(record) < _END_64.size or not record.startswith(b"PK\x06\x06"):
        raise ArchiveRefused("it is no zip archive: its table of contents is damaged")
    fields = _END_64.unpack(record)
    return fields[7], fields[8]
