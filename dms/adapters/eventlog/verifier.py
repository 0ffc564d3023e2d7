"""Whether a log is what was written: its chain, its archive held against the table, its keys, its pages."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Sequence

from dms.adapters.eventlog import keyring
from dms.adapters.eventlog.archive_reader import verified
from dms.adapters.eventlog.segments import Block
from dms.adapters.eventlog.sqlite_reader import Row, SQLiteReader
from dms.adapters.eventlog.sqlite_schema import WITH_KEYS
from dms.domain.chain import GENESIS, SignedRecord, link
from dms.errors import LogCorrupt

NamedRow = tuple[Row, tuple[str, str, int]]
"""A stored row, and the names that stand in it as numbers: stream, topic, schema version."""
_END = 2**62


class Verifier:
    """Blocking. Raises LogCorrupt at the first thing that does not fit."""

    def __init__(self, reader: SQLiteReader) -> None:
        self._reader, self._archived = reader, reader.archived

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
        if self._reader.format() >= WITH_KEYS:
            keyring.check(self._reader.ask("SELECT * FROM seal_key ORDER BY number"))

    def structure(self) -> None:
        """What the chain does not see: indices that miss a row, pages that nothing leads to."""
        found = [text for (text,) in self._reader.ask("PRAGMA integrity_check(5)")]
        if found != ["ok"]:
            raise LogCorrupt(
                f"{self._reader.database} is damaged: {'; '.join(' '.join(text.split()) for text in found)}"
            )

    def _rows(self, after: int, limit: int) -> list[NamedRow]:
        try:
            return self._reader.named_rows(after, _END, limit)
        except sqlite3.Error as error:
            raise LogCorrupt(f"the log can't be read behind position {after}: {error}") from error

    # --- the archived part ---------------------------------------------------------------------------
    def _archive(self, position: int, previous: bytes) -> Iterator[tuple[int, bytes]]:
        """The next segment; yields the position and the link reached after each block."""
        try:
            for block, records in verified(self._archived, position, previous):
                rows = {found[0][0]: found for found in self._reader.named_rows(block.first - 1, block.last)}
                self._compare(block, records, rows)
                yield block.last, bytes.fromhex(records[-1].hash)
        except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
            raise LogCorrupt(f"the archive can't be read behind position {position}: {error}") from error

    def _compare(self, block: Block, records: Sequence[SignedRecord], rows: dict[int, NamedRow]) -> None:
        newest: dict[str, int] = {}  # version of each stream
        moved: dict[str, SignedRecord] = {}  # the newest of each stream that is not in the table
        for record in records:
            newest[record.stream] = record.version
            found = rows.get(record.position)
            if found is None:
                moved[record.stream] = record
                continue
            row, names = found
            if not (bytes.fromhex(record.hash) == row[10] == _link_of(bytes.fromhex(record.previous), row, *names)):
                raise LogCorrupt(
                    f"position {record.position} ({record.topic} of {record.stream}) was changed: the table and the "
                    f"archive's {block.file} do not tell the same"
                )
        self._compare_index(block, newest, moved)

    def _compare_index(self, block: Block, newest: dict[str, int], moved: dict[str, SignedRecord]) -> None:
        noted = self._archived.versions(newest, block.first)
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


def _checked_links(position: int, previous: bytes, found: Sequence[NamedRow]) -> bytes:
    """The link at the last of the rows behind a position, whose link is `previous`."""
    for row, (stream, topic, schema_version) in found:
        position += 1
        if row[0] != position:
            raise LogCorrupt(f"position {position} is missing: the next event stands at {row[0]}")
        previous = _link_of(previous, row, stream, topic, schema_version)
        if previous != row[10]:
            raise LogCorrupt(f"position {position} ({topic} of {stream}) was changed: its hash does not fit")
    return previous


def _link_of(previous: bytes, row: Row, stream: str, topic: str, schema_version: int) -> bytes:
    """The hash that a stored row must have. A value may not even be of its column's type: SQLite stores any."""
    try:
        return link(
            previous, row[0], stream.encode(), row[2], topic.encode(), schema_version, row[4], row[5], row[6], row[7],
            row[8].encode(), row[9],
        )  # fmt: skip
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        raise LogCorrupt(f"position {row[0]} ({topic} of {stream}) was changed: {error}") from error
