"""Reading an archive of a workspace that a stranger made: strictly, in bounded memory, time and disk.

The format is the original's: a tar in one gzip member, everything under `workspace/`. Only regular files
and folders are taken. The tar's blocks are read here and not by `tarfile`, which would read a header of
any claimed size into memory and whose own filter has been got round (CVE-2025-4517).
"""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from msgspec import Struct

from dms.disk import is_short
from dms.errors import ArchiveRefused, ExecutionError, ExecutorUnavailable

TOP = "workspace"
BLOCK = 512
READ_BYTES = 256 * 1024
TRAILING_BYTES = 1024 * 1024  # GNU tar rounds its archives up to 10 kB, others to more
NAME_BYTES = 255  # of one part of a path, as Linux has it
PATH_BYTES = 1_024
DEPTH = 64
ENTRIES = 65_536
TOO_LONG = f"is deeper than {DEPTH} folders, longer than {PATH_BYTES} bytes, or has a part longer than {NAME_BYTES}"
LONG_HEADER_BYTES = 16 * 1024
RATIO = 200  # content to archive, beyond the first FREE_BYTES
FREE_BYTES = 64 * 1024 * 1024
LATEST_TIME = 2**33  # seconds; a file system need not know later ones
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class Owner(Struct, frozen=True):
    """Who the extracted files belong to."""

    uid: int
    gid: int


class Entry(Struct, frozen=True, kw_only=True):
    """parts: of the path below `workspace`, empty for the folder itself. mtime: Unix seconds."""

    parts: tuple[str, ...]
    folder: bool
    mode: int
    mtime: int
    size: int


class Content(Protocol):
    """Files and folders, one after the other: what `entries` named last, `chunks` reads."""

    def entries(self) -> Iterator[Entry]: ...

    def chunks(self) -> Iterator[bytes]: ...


class Unpacked(Struct, frozen=True):
    files: int
    size_bytes: int


def can_be_named(parts: tuple[str, ...]) -> bool:
    """Whether an archive may have a file or folder with this path, whoever makes it. The slash that a tar puts behind a
    folder is no part of it."""
    path = "/".join(parts)
    if any("\ud800" <= c <= "\udfff" or c == "\0" for c in path):
        return False
    lengths = [len(part.encode()) for part in parts]
    return len(parts) <= DEPTH and len(path.encode()) <= PATH_BYTES and max(lengths, default=0) <= NAME_BYTES


def is_suspicious(content_bytes: int, archive_bytes: int) -> bool:
    """Whether so much content in so small an archive is a bomb rather than a workspace."""
    return content_bytes > FREE_BYTES + RATIO * archive_bytes


def check_archive(archive: Path, max_bytes: int) -> Unpacked:
    """Reads all of it, writes nothing. Raises ArchiveRefused, ExecutorUnavailable."""
    files = size = 0
    with opened(archive, "archive") as file:
        reader = ArchiveReader(file, max_bytes)
        for entry in reader.entries():
            files, size = files + (not entry.folder), size + entry.size
    return Unpacked(files, size)


def repack(content: Content, out: BinaryIO, below: str = ".", mark: str = "") -> None:
    """As a plain tar of files and folders, which busybox reads. below: the folder in it that all is in. mark: an empty
    file at its end, which tells that nothing is missing. Raises what `content` does, and OSError of `out`."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, bufsize=READ_BYTES) as tar:
        for entry in content.entries():
            if not entry.parts:
                continue  # the workspace itself: its rights are the executor's to set
            info = tarfile.TarInfo("/".join((below, *entry.parts)))
            info.type = tarfile.DIRTYPE if entry.folder else tarfile.REGTYPE
            info.mode, info.mtime, info.size = entry.mode | (0o700 if entry.folder else 0o600), entry.mtime, entry.size
            tar.addfile(info, _Chunks(content))
        if mark:
            tar.addfile(tarfile.TarInfo(mark))


class _Chunks(io.RawIOBase):
    """A file's bytes, as `tarfile` asks for them."""

    def __init__(self, reader: Content) -> None:
        self._chunks = reader.chunks()
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        found = bytearray(self._rest)
        while len(found) < size and (chunk := next(self._chunks, b"")):
            found += chunk
        self._rest = bytes(found[size:])
        return bytes(found[:size])


def unpack(archive: Path, target: Path, max_bytes: int, owner: Owner | None = None) -> Unpacked:
    """Into a folder that is empty and that nobody else writes. Raises ArchiveRefused; ExecutionError when
    it does not fit; ExecutorUnavailable."""
    files = size = 0
    with opened(archive, "checkpoint") as file, Target(target, owner) as writer:
        reader = ArchiveReader(file, max_bytes)
        for entry in reader.entries():
            writer.write(entry, reader)
            files, size = files + (not entry.folder), size + entry.size
    return Unpacked(files, size)


class ArchiveReader:
    """`entries` yields each; a file's `chunks` must be read before the next (else they are skipped)."""

    def __init__(self, file: BinaryIO, max_bytes: int, *, top: str = TOP, zipped: bool = True) -> None:
        """max_bytes: of content, all files together. top: the folder that everything is in; empty for none. zipped: it
        is a tar.gz, else a tar."""
        self._data = _Gunzip(file) if zipped else _Plain(file)
        self._top = top
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._body = self._padding = 0
        self._seen: dict[tuple[str, ...], bool] = {}  # path -> is a folder

    def entries(self) -> Iterator[Entry]:
        named: dict[str, str] = {}
        count = 0
        while (header := self._header()) is not None:
            count += 1
            if count > 2 * (ENTRIES + 1):  # each, and the folder that all is in, may have a long header of its own
                raise ArchiveRefused(f"it has more than {ENTRIES} entries")
            if header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
                found = self._long_header(header)
                if header.type != tarfile.XGLTYPE:
                    named |= found
                continue
            entry = self._entry(header, named)
            named = {}
            if entry.size > self._left:
                raise ArchiveRefused(f"its content is larger than {self._max_bytes // 2**20} MiB")
            self._left -= entry.size
            self._body, self._padding = entry.size, -entry.size % BLOCK
            yield entry
            for _ in self.chunks():
                pass
            self._data.exactly(self._padding)
        if named:
            raise ArchiveRefused("it ends after a header without its file")
        self._data.finish()

    def chunks(self) -> Iterator[bytes]:
        """The current file's bytes."""
        while self._body:
            chunk = self._data.some(min(self._body, READ_BYTES))
            self._body -= len(chunk)
            yield chunk

    def _header(self) -> tarfile.TarInfo | None:
        block = self._data.exactly(BLOCK)
        if block == bytes(BLOCK):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise ArchiveRefused(f"it is not a tar archive: {error}") from error
        if header.size < 0 or not isinstance(header.size, int):
            raise ArchiveRefused("an entry has a negative size")
        return header

    def _long_header(self, header: tarfile.TarInfo) -> dict[str, str]:
        if header.size > LONG_HEADER_BYTES:
            raise ArchiveRefused(f"a header has {header.size} bytes; at most {LONG_HEADER_BYTES} are taken")
        body = self._data.exactly(header.size)
        self._data.exactly(-header.size % BLOCK)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": body.rstrip(b"\0").decode("utf-8", "surrogateescape")}
        return _pax_records(body)

    def _entry(self, header: tarfile.TarInfo, named: dict[str, str]) -> Entry:
        name = named.get("path", header.name)
        parts = self._parts(name)
        shown = f"entry {name[:100]!r}"
        # An old tar marks a folder by the slash at its name's end; frombuf knows that.
        folder = header.type == tarfile.DIRTYPE
        if not folder and header.type not in _FILES:
            kind = _KINDS.get(header.type, f"of the unknown type {header.type!r}")
            raise ArchiveRefused(f"{shown} is {kind}; only files and folders are taken")
        size = _number(named.get("size"), header.size, shown)
        if folder and size:
            raise ArchiveRefused(f"{shown} is a folder with content")
        if not parts and not folder:
            raise ArchiveRefused(f"{shown} is not a folder")
        self._claim(parts, folder, shown)
        mtime = min(max(_number(named.get("mtime"), int(header.mtime), shown), 0), LATEST_TIME)
        return Entry(parts=parts, folder=folder, mode=header.mode & 0o777, mtime=mtime, size=size)

    def _parts(self, name: str) -> tuple[str, ...]:
        shown = f"entry {name[:100]!r}"
        if any("\ud800" <= c <= "\udfff" or c == "\0" for c in name):
            raise ArchiveRefused(f"{shown} has a name that is not UTF-8 text")
        if name.startswith("/"):
            raise ArchiveRefused(f"{shown} has an absolute name")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise ArchiveRefused(f"{shown} leaves its folder ('..')")
        if not parts and name.strip("/") == ".":  # `tar -C FOLDER .`'s own first entry
            return ()
        if not parts or (self._top and parts[0] != self._top):
            raise ArchiveRefused(f"{shown} is outside of the folder {self._top}/")
        if not can_be_named(parts):
            raise ArchiveRefused(f"{shown} {TOO_LONG}")
        return parts[1:] if self._top else parts

    def _claim(self, parts: tuple[str, ...], folder: bool, shown: str) -> None:
        """Each name once; what is a file can't hold others. Folders may be named after their content."""
        if not parts:
            return  # what all is in
        explicit = self._seen.get(parts)
        if explicit is not None and (explicit is False or not folder):
            raise ArchiveRefused(f"{shown} is there twice")
        for depth in range(1, len(parts)):
            if self._seen.setdefault(parts[:depth], True) is False:
                raise ArchiveRefused(f"{shown} is inside of a file")
        self._seen[parts] = folder
        if len(self._seen) > ENTRIES:
            raise ArchiveRefused(f"it has more than {ENTRIES} entries")


class _Plain:
    """A file as it is, a piece at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def some(self, size: int) -> bytes:
        """Between 1 and `size` bytes. Raises ArchiveRefused at the end."""
        data = self._file.read(size)
        if not data:
            raise ArchiveRefused("it ends too early")
        return data

    def exactly(self, size: int) -> bytes:
        """size: small."""
        return _exactly(self, size)

    def finish(self) -> None:
        """Behind the tar's end there may be some zeros."""
        data = self._file.read(TRAILING_BYTES + 1)
        if len(data) > TRAILING_BYTES or any(data):
            raise ArchiveRefused("there is more behind its end")


class _Gunzip:
    """One gzip member, a piece at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._in = self._out = 0

    def some(self, size: int) -> bytes:
        """Between 1 and `size` bytes. Raises ArchiveRefused at the end."""
        while True:
            if not self._pending and not self._inflate.eof:
                self._pending = self._file.read(READ_BYTES)
                self._in += len(self._pending)
            if self._inflate.eof or not self._pending:
                raise ArchiveRefused("it ends too early")
            try:
                data = self._inflate.decompress(self._pending, size)
            except zlib.error as error:
                raise ArchiveRefused(f"it is not a gzip archive: {error}") from error
            self._pending = self._inflate.unconsumed_tail
            self._out += len(data)
            if is_suspicious(self._out, self._in):
                raise ArchiveRefused(f"it unpacks to more than {RATIO} times its size")
            if data:
                return data

    def exactly(self, size: int) -> bytes:
        """size: small."""
        return _exactly(self, size)

    def finish(self) -> None:
        """Behind the tar's end there may be some zeros, and nothing behind the gzip."""
        left = TRAILING_BYTES
        while not self._inflate.eof:
            try:
                data = self.some(READ_BYTES)
            except ArchiveRefused:
                if self._inflate.eof:
                    break
                raise
            left -= len(data)
            if left < 0 or any(data):
                raise ArchiveRefused("there is more behind its end")
        if self._inflate.unused_data or self._file.read(1):
            raise ArchiveRefused("there is more behind its end")


def _exactly(data: _Plain | _Gunzip, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += data.some(size - len(found))
    return found


class Target:
    """Creates what is new and follows nothing: each folder is opened from the one above it."""

    def __init__(self, root: Path, owner: Owner | None) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self._owner = owner
        self._folders: list[Entry] = []

    def __enter__(self) -> Target:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                self._date_folders()
        finally:
            os.close(self._root)

    def write(self, entry: Entry, reader: Content) -> None:
        if not entry.parts:
            return  # the workspace itself: its rights are the executor's to set
        if entry.folder:
            with self.folder(entry.parts) as folder:
                os.fchmod(folder, entry.mode | 0o700)
            self._folders.append(entry)
            return
        with self.folder(entry.parts[:-1]) as folder:
            self._write_file(folder, entry, reader)

    def _write_file(self, folder: int, entry: Entry, reader: Content) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(entry.parts[-1], flags, 0o600, dir_fd=folder)
        except FileExistsError as error:
            raise ArchiveRefused(f"entry {'/'.join(entry.parts)[:100]!r} is there twice") from error
        with os.fdopen(handle, "wb", buffering=0) as file:
            for chunk in reader.chunks():
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            self._give(handle)
            os.fchmod(handle, entry.mode | 0o600)
            os.utime(handle, (entry.mtime, entry.mtime))

    @contextmanager
    def folder(self, parts: tuple[str, ...]) -> Iterator[int]:
        """A descriptor of the folder, which is made where it is missing; no link is followed."""
        handle = os.dup(self._root)
        try:
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=handle)
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                    self._give(below)
                    os.fchmod(below, 0o755)  # nosec B103  # in the workspace, for the job's own user
                    os.close(below)
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)

    def _give(self, handle: int) -> None:
        if self._owner is not None:
            os.fchown(handle, self._owner.uid, self._owner.gid)

    def _date_folders(self) -> None:
        """At the end: writing into a folder changes its time."""
        for entry in reversed(self._folders):
            with self.folder(entry.parts) as folder:
                os.utime(folder, (entry.mtime, entry.mtime))


@contextmanager
def opened(archive: Path, what: str) -> Iterator[BinaryIO]:
    """Every refusal names what is refused; the disk's own troubles are told apart. what: it is, for people."""
    try:
        with archive.open("rb", buffering=0) as file:
            yield file
    except ArchiveRefused as refused:
        raise ArchiveRefused(f"the {what} is refused: {refused}") from refused
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise ExecutorUnavailable(f"the archive {archive.name} is not here") from error
        if is_short(error):
            raise ExecutorUnavailable(f"the {what} can't be unpacked now: {error.strerror}") from error
        raise ExecutionError(f"the {what} can't be unpacked: {error.strerror}") from error


def _pax_records(body: bytes) -> dict[str, str]:
    """`path`, `size` and `mtime` of "<length> <key>=<value>\\n" records. Source: POSIX pax, "pax Header Block"."""
    found: dict[str, str] = {}
    while body:
        digits, blank, _ = body[:24].partition(b" ")
        if not blank or not digits.isdigit() or not len(digits) + 2 < int(digits) <= len(body):
            raise ArchiveRefused("a pax header can't be read")
        record, body = body[len(digits) + 1 : int(digits)], body[int(digits) :]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ArchiveRefused("a pax header can't be read")
        if key.startswith(b"GNU.sparse"):
            raise ArchiveRefused("it has a sparse file; only plain files and folders are taken")
        if key in (b"path", b"size", b"mtime"):
            found[key.decode()] = value[:-1].decode("utf-8", "surrogateescape")
    return found


def _number(text: str | None, otherwise: int, shown: str) -> int:
    """A pax number; times may have a fraction."""
    if text is None:
        return otherwise
    whole = text.lstrip("-").partition(".")[0]
    if not whole.isascii() or not whole.isdigit() or len(whole) > 18:
        raise ArchiveRefused(f"{shown} has a header that can't be read")
    return -int(whole) if text.startswith("-") else int(whole)
