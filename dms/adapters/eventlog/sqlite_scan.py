"""The least that reading a log costs: its rows, each body decoded, and nothing made of them. What a replay is
measured by. Of the archived part: its lines, decoded in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.segments import read_block
from dms.adapters.eventlog.sqlite import ARCHIVE_FOLDER
from dms.adapters.eventlog.sqlite_archive import SQLiteArchiveIndex
from dms.adapters.eventlog.sqlite_schema import WITH_ARCHIVE, connect, format_of

PAGE = 5000
_ROWS = (
    "SELECT position, stream, version, topic, time, data FROM event WHERE position > ? AND position <= ? "
    "ORDER BY position"
)


def scan(database: Path, until: int) -> Iterator[int]:
    """Yields the number of events of each page. Raises ArchiveUnreadable."""
    connection = connect(database, read_only=True)
    try:
        connection.execute("BEGIN")  # one moment for both parts
        exists = format_of(connection) >= WITH_ARCHIVE
        archived = Archived(SQLiteArchiveIndex(connection, exists=exists), database.with_name(ARCHIVE_FOLDER))
        end = min(until, archived.last())
        for block in archived.blocks(0, end):
            yield _decoded(read_block(archived.folder, block), end)
        rows = connection.execute(_ROWS, (end, until))
        while page := rows.fetchmany(PAGE):
            for row in page:
                orjson.loads(row[5])
            yield len(page)
    finally:
        connection.close()


def _decoded(lines: list[bytes], until: int) -> int:
    """How many of the records are not behind `until`."""
    count = 0
    for line in lines:
        record = orjson.loads(line)
        if record["position"] <= until:
            orjson.loads(record["data"])
            count += 1
    return count
