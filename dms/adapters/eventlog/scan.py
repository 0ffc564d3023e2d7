"""The least that reading a log costs: its rows, each body decoded, and nothing made of them. What a replay is
measured by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from dms.adapters.eventlog.sqlite import connect

PAGE = 5000
_ROWS = "SELECT position, stream, version, topic, time, data FROM event WHERE position <= ? ORDER BY position"


def scan(database: Path, until: int) -> Iterator[int]:
    """Yields the number of events of each page."""
    connection = connect(database, read_only=True)
    try:
        rows = connection.execute(_ROWS, (until,))
        while page := rows.fetchmany(PAGE):
            for row in page:
                orjson.loads(row[5])
            yield len(page)
    finally:
        connection.close()
