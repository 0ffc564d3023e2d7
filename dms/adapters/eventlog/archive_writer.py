"""Moves the oldest events of a log to segment files, while it is in use.

One step: a segment is written and made durable, then noted in one transaction, from which on readers take its positions
from the file; then the rows of what has ended leave the table, a few at a time. A kill at any point leaves either
a file that nothing knows, which the next step writes again, or rows that are in both places, which the next step takes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.eventlog.recorder import MovedRows
from dms.adapters.eventlog.segments import PART, Block, Segment, SegmentWriter, end_of, range_of
from dms.adapters.eventlog.verifier import Verifier
from dms.application.ports.event_log import ArchivedSegment, ArchiveStep
from dms.application.ports.signing import Signer
from dms.domain.retention import is_closable, is_closed
from dms.errors import LogCorrupt, LogUnavailable
from dms.long_work import long_work

log = logging.getLogger(__name__)

BLOCKS_A_THREAD = 5
_PAGE = 2000


class Sizes(NamedTuple):
    """rows_a_turn: that leave the table in one transaction: a few milliseconds."""

    segment_events: int = 50_000
    block_events: int = 200
    rows_a_turn: int = 400


_SIZES = Sizes()


class _Written(NamedTuple):
    segment: Segment
    blocks: Sequence[Block]


class SegmentArchive:
    """Implements application.ports.event_log.EventArchive, over the log that this process writes."""

    def __init__(self, event_log: DurableEventLog, signer: Signer, sizes: Sizes = _SIZES) -> None:
        self._log, self._recorder, self._signer = event_log, event_log.recorder, signer
        self._archived = event_log.recorder.archived
        self._sizes = sizes
        self._turn = asyncio.Lock()

    async def step(self, before: int, at_least: int) -> ArchiveStep:
        with _told():
            async with self._turn:
                await asyncio.to_thread(self._clear)
                last, more = await asyncio.to_thread(self._range, before, at_least)
                written = None
                if last:
                    written = await self._write(self._log.first, last)
                    await self._log.between_commits(partial(self._note, written))
                removed = await self._remove_closed()
        shown = self._described(written.segment) if written else None
        return ArchiveStep(segment=shown, rows_removed=removed, more=more and written is not None)

    async def segments(self, after: int, limit: int) -> Sequence[ArchivedSegment]:
        with _told():
            found = await asyncio.to_thread(self._archived.index.segments, after, limit)
            return await long_work(lambda: [self._described(segment) for segment in found])

    def _described(self, segment: Segment) -> ArchivedSegment:
        path = self._archived.folder / segment.file
        try:
            state = "ok" if path.stat().st_size == segment.size_bytes else "damaged"
        except OSError:
            state = "missing"
        return ArchivedSegment(
            file=str(path),
            first=segment.first,
            last=segment.last,
            newest=segment.newest,
            size_bytes=segment.size_bytes,
            sha256=segment.sha256.hex(),
            hash=segment.hash.hex(),
            state=state,
        )

    # --- the file ----------------------------------------------------------------------------------
    def _clear(self) -> None:
        for left in self._archived.folder.glob(f"events-*{PART}"):
            if left.is_file():
                left.unlink(missing_ok=True)

    def _range(self, before: int, at_least: int) -> tuple[int, bool]:
        """(the last position of the next segment or 0 for none, whether there is more behind it)"""
        first = self._recorder.first
        interrupted = self._interrupted(first)
        if interrupted:
            return interrupted, True
        found, behind = self._recorder.older_until(before, self._sizes.segment_events)
        last = min(found, self._log.head)
        if behind:
            log.warning(
                "%d events that are old enough are not archived yet: behind position %d younger ones stand before "
                "them; was the clock wrong?",
                behind, max(last, first - 1), extra={"action": "archive_held_back"},
            )  # fmt: skip
        return last if last - first + 1 >= at_least else 0, self._log.head >= first + self._sizes.segment_events - 1

    def _interrupted(self, first: int) -> int:
        """Where a segment ends that was written, but not noted before a kill; 0 for none. It is written again over
        that file, so that none is left behind. One of another history, or of a newer log, is left alone."""
        found = [path for path in self._archived.folder.glob(f"events-{first:012d}-*") if range_of(path.name)]
        return max(map(self._end_of_ours, found), default=0)

    def _end_of_ours(self, path: Path) -> int:
        last, link = end_of(path)
        ours = 0 < last <= self._log.head and self._recorder.previous_hash(last + 1).hex() == link
        return last if ours else 0

    async def _write(self, first: int, last: int) -> _Written:
        previous = await asyncio.to_thread(self._recorder.previous_hash, first)
        writer = await long_work(SegmentWriter, self._archived.folder, first, last, previous, self._signer)
        try:
            while writer.position < last:
                await long_work(self._add, writer, last)
            return _Written(await long_work(writer.finish), writer.blocks)
        except BaseException:
            writer.abandon()
            raise

    def _add(self, writer: SegmentWriter, last: int) -> None:
        """Some blocks: short enough that a stop need not wait for it."""
        most = min(self._sizes.block_events * BLOCKS_A_THREAD, last - writer.position)
        # What does not verify stays to be looked at.
        Verifier(self._recorder).rows(writer.position, writer.link, most)
        events = self._log.store.read(writer.position, most, until=last)
        size = self._sizes.block_events
        for start in range(0, len(events), size):
            writer.add(events[start : start + size])

    # --- the index ---------------------------------------------------------------------------------
    def _note(self, written: _Written) -> None:
        self._recorder.note_archived(written.segment, written.blocks)

    # --- the rows ----------------------------------------------------------------------------------
    async def _remove_closed(self) -> int:
        """How many rows left the table."""
        removed = after = 0
        last = self._recorder.first - 1
        while after < last:
            streams, after = await asyncio.to_thread(self._recorder.streams_between, after, last, _PAGE)
            parts = await long_work(self._parts, streams, last)
            for turn in _turns(parts, self._sizes.rows_a_turn):
                started = time.perf_counter()
                await self._log.between_commits(partial(self._remove, turn))
                removed += sum(part.rows for part in turn)
                await asyncio.sleep(time.perf_counter() - started)  # as long again for those who write
        return removed

    def _parts(self, streams: Iterable[str], last: int) -> list[MovedRows]:
        """The rows of those that ended, and lie wholly at or before `last`."""
        found: list[MovedRows] = []
        for stream in streams:
            if not is_closable(stream):
                continue
            events = self._log.store.read_stream(stream)
            if events[-1].position > last or not is_closed(stream, events):
                continue
            archived = self._archived.index.version(stream)
            versions = [event.originator_version for event in events if event.originator_version > archived]
            for start in range(0, len(versions), self._sizes.rows_a_turn):
                some = versions[start : start + self._sizes.rows_a_turn]
                found.append(MovedRows(stream, some[-1], len(some)))
        return found

    def _remove(self, parts: Sequence[MovedRows]) -> None:
        self._recorder.drop_archived(parts)


def _turns(parts: Iterable[MovedRows], most: int) -> Iterator[list[MovedRows]]:
    """So many at a time that their rows are at most `most`."""
    turn: list[MovedRows] = []
    for part in parts:
        if turn and sum(one.rows for one in turn) + part.rows > most:
            yield turn
            turn = []
        turn.append(part)
    if turn:
        yield turn


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except LogCorrupt as error:
        raise LogUnavailable(f"the log does not verify, so nothing was archived: {error}") from error
    except (OSError, PersistenceError) as error:
        raise LogUnavailable(f"the archive can't be written: {error}; nothing is lost, try again") from error
