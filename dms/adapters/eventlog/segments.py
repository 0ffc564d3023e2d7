"""Segment files of the archive: a contiguous range of positions in the format of exports, compressed.

One gzip member holds the header, one each block of records, one the footer: so `zcat` reads the whole, and a block is
read alone. A file has its name once it is whole and on the disk.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path

from msgspec import Struct

from dms.application.ports.signing import Signer
from dms.application.records.export import signed_record
from dms.disk import make_folder, private, publish, sync_folder
from dms.domain.decoding import UNREADABLE
from dms.domain.event import Recorded
from dms.domain.export import Header, Writer, decode_footer
from dms.errors import ArchiveUnreadable

log = logging.getLogger(__name__)

MOST_BLOCK_BYTES = 1 << 30  # of one block once it is unpacked: what only a forged file holds
PART = ".part"
_LEVEL = 6
_NAME = re.compile(r"events-(\d{12})-(\d{12})\.ndjson\.gz")


class Block(Struct, frozen=True, gc=False):
    """Where the records of some positions are in a segment's file. oldest: the least time of them, Unix µs."""

    first: int
    last: int
    file: str
    offset: int
    length: int
    oldest: int


class Segment(Struct, frozen=True, gc=False):
    """previous, hash: the chain's links before the first and at the last event. sha256: of the file's bytes.
    newest: the greatest time of its events, Unix µs."""

    first: int
    last: int
    file: str
    previous: bytes
    hash: bytes
    sha256: bytes
    size_bytes: int
    newest: int


def file_name(first: int, last: int) -> str:
    return f"events-{first:012d}-{last:012d}.ndjson.gz"


def range_of(name: str) -> tuple[int, int] | None:
    """The positions that a segment's file name says; None for any other name."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


class SegmentWriter:
    """Writes a segment block by block, then `finish`, or `abandon`. A cut leaves a `.part` file at most."""

    def __init__(self, folder: Path, first: int, last: int, previous: bytes, signer: Signer) -> None:
        """previous: the link before `first`. Raises OSError."""
        if not folder.is_dir():
            make_folder(folder)
            sync_folder(folder.parent)
        self._path = folder / file_name(first, last)
        self._part = self._path.with_name(self._path.name + PART)
        self._file = os.fdopen(private(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb")
        self._first, self._last, self._previous, self.link = first, last, previous, previous  # link: of the last record
        self._lines = Writer(
            Header(kind="log", peer_id=signer.peer_id, first=first, previous=previous.hex()), signer.sign
        )
        self._digest, self._size, self._newest = sha256(), 0, 0
        self.position = first - 1  # of the last record written
        self.blocks: list[Block] = []
        self._put(self._lines.begin())

    def add(self, events: Sequence[Recorded]) -> None:
        """The next block's events. Raises OSError."""
        lines: list[bytes] = []
        for recorded in events:
            lines.append(self._lines.record(signed_record(recorded, self.link, None)))
            self.link = recorded.hash
        times = [recorded.time for recorded in events]
        offset = self._size
        self._put(b"".join(lines))
        self.position = events[-1].position
        self._newest = max(self._newest, *times)
        self.blocks.append(
            Block(events[0].position, self.position, self._path.name, offset, self._size - offset, min(times))
        )

    def finish(self) -> Segment:
        """Once this returns the file is on the disk under its name. Raises OSError."""
        self._put(self._lines.end(self.position, self.link.hex()))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._keep_other()
        publish(self._part, self._path)
        return Segment(
            self._first, self._last, self._path.name, self._previous, self.link, self._digest.digest(), self._size,
            self._newest,
        )  # fmt: skip

    def _keep_other(self) -> None:
        """A file of that name that does not end as this one is of another history: of a log before it was put back
        from a backup. It may be the only copy, so it gets another name."""
        if self._path.exists() and end_of(self._path) != (self._last, self.link.hex()):
            with self._path.open("rb") as file:
                mark = file_digest(file, "sha256").hexdigest()[:16]
            other = self._path.with_name(f"{self._path.name}.{mark}")
            self._path.replace(other)
            log.warning("%s held another history; that is in %s now", self._path, other, extra={"action": "kept"})

    def abandon(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _put(self, lines: bytes) -> None:
        member = gzip.compress(lines, _LEVEL, mtime=0)  # no time: the same events make the same file again
        self._file.write(member)
        self._digest.update(member)
        self._size += len(member)


def read_block(folder: Path, block: Block) -> list[bytes]:
    """Its lines. Raises ArchiveUnreadable naming file and positions."""
    try:
        with (folder / block.file).open("rb") as file:
            file.seek(block.offset)
            packed = file.read(min(block.length, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise _unreadable(folder, block, error.strerror or str(error)) from error
    unpacker = zlib.decompressobj(wbits=31)
    try:
        lines = unpacker.decompress(packed, MOST_BLOCK_BYTES).splitlines()
    except zlib.error as error:
        raise _unreadable(folder, block, f"it is damaged ({error})") from error
    if not unpacker.eof or len(lines) != block.last - block.first + 1:
        raise _unreadable(folder, block, "it is damaged: not all of them are there")
    return lines


def end_of(path: Path) -> tuple[int, str]:
    """The position and the link (hex) that the file's footer says; (0, "") when it can't be read."""
    try:
        with gzip.open(path) as file:
            footer = decode_footer(b"".join(deque(file, 1)))
    except (OSError, EOFError, zlib.error, *UNREADABLE):
        return 0, ""
    return footer.position, footer.hash


def digest(folder: Path, segment: Segment) -> bytes:
    """SHA-256 of the file as it is. Raises ArchiveUnreadable."""
    found = sha256()
    with _told(folder, segment), (folder / segment.file).open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.digest()


def size(folder: Path, segment: Segment) -> int:
    """Bytes of the file as it is. Raises ArchiveUnreadable."""
    with _told(folder, segment):
        return (folder / segment.file).stat().st_size


@contextmanager
def _told(folder: Path, segment: Segment) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveUnreadable(
            f"{folder / segment.file}, which holds positions {segment.first} to {segment.last}, can't be read: "
            f"{error.strerror}"
        ) from error


def _unreadable(folder: Path, block: Block, why: str) -> ArchiveUnreadable:
    return ArchiveUnreadable(
        f"positions {block.first} to {block.last} can't be read from the archive's {folder / block.file}: {why}; "
        "put the file back from a copy"
    )
