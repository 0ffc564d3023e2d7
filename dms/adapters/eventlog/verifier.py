"""Whether a log is what was written: its chain, its archive held against the table, its keys, its pages."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog import keyring
from dms.adapters.eventlog.archive_reader import verified
from dms.adapters.eventlog.envelope import Stored
from dms.adapters.eventlog.recorder import LogRecorder
from dms.adapters.eventlog.segments import Block
from dms.domain.chain import GENESIS, SignedRecord, link
from dms.errors import LogCorrupt

_END = 2**62


class Verifier:
    """Blocking. Raises LogCorrupt at the first thing that does not fit, ArchiveUnreadable where it can't be told."""

    def __init__(self, recorder: LogRecorder) -> None:
        self._recorder, self._archived = recorder, recorder.archived

    def chain(self, batch: int = 5000) -> Iterator[int]:
        """Recomputes the whole chain; yields the position reached after each batch. Of the archived part it also holds
        what is still in the table against the files, and that what is not can be found."""
        position, previous = files = 0, GENESIS  # files: of the archived part, as far as it was looked at
        while True:
            archived = self._archived.last()
            if files[0] < archived:  # perhaps only since its rows were looked at: then all goes on behind the files
                for reached in self._archive(*files):
                    position, previous = reached
                    yield position
                files = position, previous
                continue
            found = self._rows(position, batch)
            if self._archived.last() != archived:
                continue  # some of the rows may have gone between the two looks
            previous = _checked_links(position, previous, found)
            if not found:
                return
            position += len(found)
            yield position

    def rows(self, after: int, previous: bytes, count: int) -> None:
        """Recomputes the chain of so many rows in the table. previous: the link at `after`."""
        found = self._rows(after, count)
        _checked_links(after, previous, found)
        if (end := after + len(found)) < after + count:
            raise LogCorrupt(f"position {end + 1} is missing, and all behind it")

    def keys(self) -> None:
        """Whether each key of personal data is the one that its name says, and none has gone."""
        keyring.check(self._recorder.key_rows())

    def structure(self) -> None:
        """What the chain does not see: indices that miss a row, pages that nothing leads to."""
        if found := self._recorder.structure_faults():
            raise LogCorrupt(
                f"{self._recorder.where} is damaged: {'; '.join(' '.join(text.split()) for text in found)}"
            )

    def _rows(self, after: int, limit: int) -> list[Stored]:
        try:
            return self._recorder.unchecked(after, _END, limit)
        except PersistenceError as error:
            raise LogCorrupt(f"the log can't be read behind position {after}: {error}") from error

    # --- the archived part ---------------------------------------------------------------------------
    def _archive(self, position: int, previous: bytes) -> Iterator[tuple[int, bytes]]:
        """The next segment; yields the position and the link reached after each block."""
        try:
            for block, records in verified(self._archived, position, previous):
                rows = {found.position: found for found in self._recorder.unchecked(block.first - 1, block.last)}
                self._compare(block, records, rows)
                yield block.last, bytes.fromhex(records[-1].hash)
        except (PersistenceError, TypeError, ValueError, OverflowError) as error:
            raise LogCorrupt(f"the archive can't be read behind position {position}: {error}") from error

    def _compare(self, block: Block, records: Sequence[SignedRecord], rows: dict[int, Stored]) -> None:
        newest: dict[str, int] = {}  # version of each stream
        moved: dict[str, SignedRecord] = {}  # the newest of each stream that is not in the table
        for record in records:
            newest[record.stream] = record.version
            found = rows.get(record.position)
            if found is None:
                moved[record.stream] = record
                continue
            if not (bytes.fromhex(record.hash) == found.hash == _link_of(bytes.fromhex(record.previous), found)):
                raise LogCorrupt(
                    f"position {record.position} ({record.topic} of {record.stream}) was changed: the table and the "
                    f"archive's {block.file} do not tell the same"
                )
        self._compare_index(block, newest, moved)

    def _compare_index(self, block: Block, newest: dict[str, int], moved: dict[str, SignedRecord]) -> None:
        noted = self._archived.index.versions(newest, block.first)
        for name, record in moved.items():
            if noted.get(name, 0) < record.version:
                raise LogCorrupt(
                    f"position {record.position} ({record.topic} of {name}) is missing in the table, and the archive's "
                    "index does not have it either"
                )
        for name, version in noted.items():
            if version > newest[name]:
                raise LogCorrupt(
                    f"the archive's index was changed: version {version} of {name} is not in positions {block.first} "
                    f"to {block.last}"
                )


def _checked_links(position: int, previous: bytes, found: Sequence[Stored]) -> bytes:
    """The link at the last of the rows behind a position, whose link is `previous`."""
    for row in found:
        position += 1
        if row.position != position:
            raise LogCorrupt(f"position {position} is missing: the next event stands at {row.position}")
        previous = _link_of(previous, row)
        if previous != row.hash:
            raise LogCorrupt(
                f"position {position} ({row.topic} of {row.originator_id}) was changed: its hash does not fit"
            )
    return previous


def _link_of(previous: bytes, row: Stored) -> bytes:
    """The hash that a stored row must have. A value may not even be of its column's type."""
    try:
        return link(
            previous, row.position, row.originator_id.encode(), row.originator_version, row.topic.encode(),
            row.schema_version, row.time, row.id, row.correlation, row.causation, row.traceparent.encode(), row.state,
        )  # fmt: skip
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        raise LogCorrupt(
            f"position {row.position} ({row.topic} of {row.originator_id}) was changed: {error}"
        ) from error
