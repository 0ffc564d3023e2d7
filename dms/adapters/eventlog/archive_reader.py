"""The archived part of a log, read: which positions and streams are in which blocks of the segment files.

The table's rows and this part never miss an event between them, also while another process moves some over: whoever
reads both looks at the rows first, and then here, where what left the table was noted before it left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from dms.adapters.eventlog.segments import Block, Segment, digest, read_block, size
from dms.domain.chain import SignedRecord, record_hash
from dms.domain.decoding import UNREADABLE
from dms.errors import ArchiveUnreadable, LogCorrupt, PeerMisbehaved
from dms.recent import Recent

BLOCKS_KEPT = 8  # unpacked, in memory
_decoder = msgspec.json.Decoder(SignedRecord)
_encode = msgspec.json.Encoder().encode


class ArchiveIndex(Protocol):
    """What a database keeps of the archive. For any thread. Raises PersistenceError."""

    def last_segment(self) -> Segment | None: ...

    def segments(self, after: int, limit: int) -> list[Segment]:
        """Those that begin behind position `after`, in order; limit: -1 for all."""

    def segment_at(self, position: int) -> Segment | None:
        """The first that ends there or behind it."""

    def block_at(self, position: int) -> Block | None:
        """None when it is not archived."""

    def block_reaching_back_to(self, time: int) -> Block | None:
        """The last block with an event not younger than that (Unix µs)."""

    def blocks_of(self, stream: str) -> list[Block]:
        """Those with events of the stream that left the table, in order."""

    def version(self, stream: str) -> int:
        """The newest version of the stream that left the table; 0 for none."""

    def versions(self, streams: Collection[str], block: int) -> dict[str, int]:
        """Of those with events that left the table and are in that block (by its first position): the newest version
        of them."""

    def beginning_in(self, segment: Segment) -> tuple[int, int]:
        """How many segments and blocks there are that begin at its positions."""

    def close(self) -> None: ...


class Archived:
    """Blocking; may be used by many threads, and waits for none longer than a block takes to read."""

    def __init__(self, index: ArchiveIndex, folder: Path) -> None:
        self.index, self.folder = index, folder
        self._lock = threading.Lock()
        self._blocks: Recent[int, list[bytes]] = Recent(BLOCKS_KEPT)

    def last(self) -> int:
        """The newest archived position; 0 for none."""
        newest = self.index.last_segment()
        return newest.last if newest else 0

    def blocks(self, after: int, until: int) -> Iterator[Block]:
        """Those that hold a position behind `after` and up to `until`, in order."""
        while after < until:
            block = self.index.block_at(after + 1)
            if block is None:
                raise LogCorrupt(f"position {after + 1} is archived, but the index of the archive does not have it")
            yield block
            after = block.last

    def read(self, after: int, limit: int, until: int, topics: Collection[str] = ()) -> list[SignedRecord]:
        """At most `limit` records behind `after` and up to `until`, which must be archived."""
        found: list[SignedRecord] = []
        for block in self.blocks(after, until):
            for record in self.records(block):
                if after < record.position <= until and (not topics or record.topic in topics):
                    found.append(record)
                    if len(found) == limit:
                        return found
        return found

    def records(self, block: Block) -> list[SignedRecord]:
        """All of a block. Raises ArchiveUnreadable."""
        lines = self._lines(block)
        return [self._decoded(block, line, block.first + number) for number, line in enumerate(lines)]

    def at(self, position: int) -> SignedRecord | None:
        """None when it is not archived."""
        block = self.index.block_at(position)
        if block is None:
            return None
        return self._decoded(block, self._lines(block)[position - block.first], position)

    def of_stream(self, name: str, wanted: Callable[[SignedRecord], bool]) -> Iterator[SignedRecord]:
        """Records of a stream whose rows left the table, in order, and perhaps some that are in both places."""
        mark = b'"stream":%s,' % _encode(name)  # so that the lines of other streams need not be decoded
        for block in self.index.blocks_of(name):
            for number, line in enumerate(self._lines(block)):
                if mark not in line:
                    continue
                record = self._decoded(block, line, block.first + number)
                if record.stream == name and wanted(record):
                    yield record

    def newest_at(self, time: int) -> int:
        """The newest archived position whose event is not younger than that (Unix µs); 0 for none."""
        block = self.index.block_reaching_back_to(time)
        if block is None:
            return 0
        return max(record.position for record in self.records(block) if record.time <= time)

    def _lines(self, block: Block) -> list[bytes]:
        with self._lock:
            lines = self._blocks.get(block.first)
            if lines is None:
                lines = self._blocks[block.first] = read_block(self.folder, block)
            return lines

    def _decoded(self, block: Block, line: bytes, position: int) -> SignedRecord:
        try:
            record = _decoder.decode(line)
        except UNREADABLE as error:
            raise ArchiveUnreadable(
                f"position {position} in {self.folder / block.file} can't be read: {error}"
            ) from error
        if record.position != position:
            raise ArchiveUnreadable(
                f"{self.folder / block.file} was changed: position {record.position} stands where {position} belongs"
            )
        return record


def verified(archived: Archived, after: int, previous: bytes) -> Iterator[tuple[Block, list[SignedRecord]]]:
    """The blocks of the segment that begins behind a position, each with its records once their links were recomputed.
    previous: the link there. Raises LogCorrupt: at the first record that does not fit, and at the end when the file
    is not the one that was written."""
    segment = archived.index.segment_at(after + 1)
    if segment is None or (segment.first, segment.previous) != (after + 1, previous):
        raise LogCorrupt(f"position {after + 1} is archived, but no segment of the archive begins with it")
    blocks = newest = 0
    for block in archived.blocks(after, segment.last):
        records = archived.records(block)
        for record in records:
            what = f"position {record.position} ({record.topic} of {record.stream}) of the archive's {segment.file}"
            previous = _checked_link(record, what, previous)
        times = [record.time for record in records]
        blocks, newest = blocks + 1, max(newest, *times)
        if block.oldest != min(times):
            raise _index_changed(segment, f"the time of positions {block.first} to {block.last} is another")
        yield block, records
    if previous != segment.hash:
        raise LogCorrupt(f"the archive's {segment.file} does not end at position {segment.last} with the link noted")
    if digest(archived.folder, segment) != segment.sha256:
        raise LogCorrupt(
            f"the archive's {segment.file} (positions {segment.first} to {segment.last}) was changed: its digest does "
            "not fit, though its records do"
        )
    if archived.index.beginning_in(segment) != (1, blocks):
        raise _index_changed(segment, "more than one entry is of the same positions")
    if (newest, size(archived.folder, segment)) != (segment.newest, segment.size_bytes):
        raise _index_changed(segment, "its newest time or its size is another")


def _index_changed(segment: Segment, why: str) -> LogCorrupt:
    return LogCorrupt(
        f"the archive's index of {segment.file} (positions {segment.first} to {segment.last}) was changed: {why}"
    )


def _checked_link(record: SignedRecord, what: str, previous: bytes) -> bytes:
    try:
        link = record_hash(record, what, previous)
    except PeerMisbehaved as error:
        raise LogCorrupt(str(error)) from error
    if link.hex() != record.hash or previous.hex() != record.previous:
        raise LogCorrupt(f"{what} was changed: its hash does not fit")
    return link
