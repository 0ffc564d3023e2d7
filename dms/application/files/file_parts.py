"""Files on their way: read in pieces, written as a part that becomes the file once it is whole. All in threads."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from dms.disk import passes, private, publish
from dms.errors import Conflict, DiskTrouble, Forbidden, InvalidInput, NotFound, Unavailable
from dms.locked_files import file_id, is_locked, unopened
from dms.long_work import long_work, stoppable
from dms.outside_calls import OutsideCalls

P = ParamSpec("P")
T = TypeVar("T")

PIECE_BYTES = 192 * 1024  # with its frame, below the longest frame; bigger ones are quicker
READ_BYTES = 5 * PIECE_BYTES
SPARE_BYTES = 64 << 20  # of the disk, left for the event log and others
HASHED_AT_ONCE = 8 << 20  # then somebody else has the turn

_DISKS = OutsideCalls("The disk that the file lies on", seconds=60.0, most=32)


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, for reading. Raises NotFound, Forbidden for anything else: also when a link
    on the path leads elsewhere, so `path` must be a resolved one; Unavailable for what passes."""
    try:
        with unopened(path) as (found, status):
            lies_at = found.readlink()
            if lies_at == path.with_name(f"{path.name} (deleted)"):  # the kernel's words
                raise Unavailable(f"File {path.name!r} was replaced or removed this moment; try again.")
            if not stat.S_ISREG(status.st_mode) or lies_at != path:
                raise Forbidden(f"{path.name!r} is not a regular file, or is reached over a symbolic link.")
            if is_locked(file_id(status)):  # it would lose its locks
                raise Forbidden(f"{path.name!r} is a database that the DMS uses.")
            return os.open(found, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"There is no file {path.name!r} any more.") from error
    except OSError as error:
        kind = Unavailable if passes(error) else Forbidden
        raise kind(f"File {path.name!r} can't be read: {error.strerror}.") from error


async def on_disk(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What looks at a file that may lie on a disk of the network. Raises Unavailable when that does not answer."""
    return await _DISKS.call(partial(work, *arguments, **named), about=_path_of(work, arguments))


async def opened(open_file: Callable[..., int], *arguments: Any) -> int:
    """The descriptor of what blocks until it is open: closed when nobody waits for it any more. Raises as `on_disk`."""
    return await _DISKS.call(partial(open_file, *arguments), os.close, about=_path_of(open_file, arguments))


def _path_of(work: Callable[..., object], arguments: tuple[object, ...]) -> str:
    """Of the file that is looked at; empty where it has none."""
    of = getattr(work, "__self__", None)
    return of.path if isinstance(of, _OpenFile) else next((str(one) for one in arguments if isinstance(one, Path)), "")


async def read_pieces(fd: int, after: int, size_bytes: int) -> AsyncGenerator[bytes, None]:
    """What is behind byte `after` of an open file, which is closed at the end. Raises Conflict unless it has that
    size; as `on_disk`."""
    file = _OpenFile(fd)
    try:
        if await on_disk(file.size) != size_bytes:
            raise Conflict("The file is another one now than it was when its name was given.")
        if after > size_bytes:
            raise InvalidInput(f"Byte {after} was asked for of a file of {size_bytes} bytes.")
        while block := await on_disk(file.read, min(READ_BYTES, size_bytes - after), after):
            after += len(block)
            for start in range(0, len(block), PIECE_BYTES):
                yield block[start : start + PIECE_BYTES]
    finally:
        file.close()


async def measure(fd: int) -> tuple[int, str]:
    """(size, sha256 in hex) of an open file, which is closed at the end. However big it is, it holds no thread for
    long, and nothing once nobody waits for it. Raises Conflict when its size changes meanwhile; as `on_disk`."""
    sha256, done = hashlib.sha256(), 0
    file = _OpenFile(fd)
    try:
        size_bytes = await on_disk(file.size)
        while block := await on_disk(file.hash_on, sha256, done, min(HASHED_AT_ONCE, size_bytes - done)):
            done += block
        if done != size_bytes or await on_disk(file.size) != size_bytes:
            raise Conflict("the file changed while it was read")
        return size_bytes, sha256.hexdigest()
    finally:
        file.close()


class _OpenFile:
    """Read by threads that nobody may wait for any more: it is closed under none of them."""

    def __init__(self, fd: int) -> None:
        self._fd, self._left, self._lock = fd, False, threading.Lock()
        self.path = str(Path(f"/proc/self/fd/{fd}").readlink())  # asks no disk

    def size(self) -> int:
        with self._used() as fd:
            return os.fstat(fd).st_size

    def read(self, most: int, after: int) -> bytes:
        with self._used() as fd:
            return os.pread(fd, most, after)

    def hash_on(self, sha256: hashlib._Hash, after: int, most: int) -> int:
        """How many bytes were taken in; 0 at the end."""
        block = self.read(most, after)
        sha256.update(block)
        return len(block)

    @contextlib.contextmanager
    def _used(self) -> Iterator[int]:
        try:
            with self._lock:
                yield self._fd
        finally:
            if self._left:
                self.close()

    def close(self) -> None:
        """Now, or by the thread that reads it just now."""
        self._left = True
        if self._lock.acquire(blocking=False):
            fd, self._fd = self._fd, -1
            self._lock.release()
            if fd >= 0:
                os.close(fd)


async def digest_of(path: Path, size_bytes: int = -1) -> str:
    """sha256 in hex of a file of the DMS's own; empty when there is no regular file of that size (-1: any). Raises
    DiskTrouble for what passes."""
    return await long_work(_digest, path, size_bytes)


def _digest(path: Path, size_bytes: int) -> str:
    try:
        with unopened(path) as (found, status):
            if not stat.S_ISREG(status.st_mode) or size_bytes not in {-1, status.st_size}:
                return ""
            with found.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        if passes(error):
            raise DiskTrouble(f"File {path.name} can't be read: {error.strerror}.") from error
        raise


class PartFile:
    """`<into>.part`, grown at its end, with the digest of all it holds. Closed by `async with`."""

    def __init__(self, into: Path, whole_bytes: int) -> None:
        """Use `open`. whole_bytes: what it will hold in the end."""
        self._into, self._path = into, into.with_name(into.name + ".part")
        self._whole = whole_bytes
        self._lock = threading.Lock()  # a cancelled append goes on in its thread: no close under its feet
        self._fd = -1
        self._hash = hashlib.sha256()
        self.size = 0

    @classmethod
    async def open(cls, into: Path, whole_bytes: int) -> Self:
        """Goes on with the part that is there, if it is no longer than the whole. Raises DiskTrouble."""
        part = cls(into, whole_bytes)
        try:
            await stoppable(part._open)  # reads all that is there
        except BaseException:
            part._close()
            raise
        return part

    def _open(self, stopped: threading.Event) -> None:
        with self._lock, disk_trouble(self._path):
            self._fd = private(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            if os.fstat(self._fd).st_size > self._whole:
                os.ftruncate(self._fd, 0)
            while not stopped.is_set() and (block := os.pread(self._fd, READ_BYTES, self.size)):
                self._hash.update(block)
                self.size += len(block)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(asyncio.to_thread(self._close))

    def _close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def check_room(self, whole_bytes: int | None = None) -> None:
        """Raises DiskTrouble when what is missing does not fit on the disk. whole_bytes: where that is less than what
        it was opened for."""
        with disk_trouble(self._path):
            free = shutil.disk_usage(self._path.parent).free - SPARE_BYTES
        missing = (self._whole if whole_bytes is None else whole_bytes) - self.size
        if free < missing:
            raise DiskTrouble(
                f"The disk is too full for {self._into.name}: {missing} bytes are missing of it, {max(0, free)} fit. "
                "Make room on it."
            )

    async def append(self, data: bytes | bytearray) -> None:
        """Raises DiskTrouble."""
        await asyncio.to_thread(self._append, data)

    def _append(self, data: bytes | bytearray) -> None:
        with self._lock, disk_trouble(self._path):
            if self._fd < 0:
                return
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, self.size)
                self._hash.update(view[:written])
                self.size += written
                view = view[written:]

    def clear(self) -> None:
        """Begins anew."""
        with self._lock, disk_trouble(self._path):
            os.ftruncate(self._fd, 0)
            self._hash, self.size = hashlib.sha256(), 0

    def discard(self) -> None:
        with disk_trouble(self._path):
            self._path.unlink(missing_ok=True)

    async def publish(self) -> None:
        """Makes it durable, and then the file at `into`, in place of what was there."""
        await asyncio.shield(asyncio.to_thread(self._publish))

    def _publish(self) -> None:
        with self._lock, disk_trouble(self._path):
            os.fsync(self._fd)
            publish(self._path, self._into)


@contextlib.contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """What the system says against writing becomes DiskTrouble."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror
        raise DiskTrouble(f"File {path.name} can't be written: {reason}.") from error
