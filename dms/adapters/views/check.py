"""Holds the stored views against a fresh fold of the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from dms.database import connect
from dms.domain.event import Recorded
from dms.errors import LogCorrupt
from projections.base import Projection, fold

PAGE = 5000


class History(Protocol):
    """The log, read without its daemon."""

    def max_notification_id(self) -> int | None: ...
    def read(self, after: int, limit: int) -> Sequence[Recorded]: ...
    def previous_hash(self, position: int) -> bytes: ...


def check_views(database: Path, projections: Sequence[Projection[Any]], log: History) -> Iterator[str]:
    """Yields the name of each view once it was found right. Raises LogCorrupt when a view has seen what the log
    does not have, or is not what the log gives, or can't be read."""
    try:
        yield from _checked(database, projections, log)
    except sqlite3.Error as error:
        raise LogCorrupt(f"the views in {database} can't be read: {error}") from error


def _checked(database: Path, projections: Sequence[Projection[Any]], log: History) -> Iterator[str]:
    connection = connect(database, read_only=True)
    try:
        for projection in projections:
            found = _stored(connection, projection)
            if found is None:
                continue
            position, link, stored = found
            head = log.max_notification_id() or 0
            if position > head:
                raise LogCorrupt(
                    f"the log ends at position {head}, but the view {projection.name} has seen position {position}: "
                    f"{position - head} events at its end are missing"
                )
            if position and link and log.previous_hash(position + 1) != link:
                raise LogCorrupt(f"the view {projection.name} has seen another event at position {position}")
            _compare(projection, position, stored, log)
            yield projection.name
    finally:
        connection.close()


def _stored(connection: sqlite3.Connection, projection: Projection[Any]) -> tuple[int, bytes, dict[str, bytes]] | None:
    """Of one moment: position, the link there, rows. Read at once: for as long as somebody reads, what the views no
    longer hold can't be brought out of the write-ahead log, which an erasure waits for. None for a view that is made
    anew at the next start, or is known not to be right, and says so."""
    connection.execute("BEGIN")
    try:
        found = connection.execute(
            "SELECT version, position, hash FROM view WHERE name = ?", (projection.name,)
        ).fetchone()
        if found is None or found[0] != projection.version or _left_out(connection, projection.name):
            return None
        rows = dict(connection.execute(f"SELECT key, body FROM view_{projection.name}"))
        return int(found[1]), bytes(found[2] or b""), rows
    finally:
        connection.execute("ROLLBACK")


def _left_out(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the view could not take in some event. Files of earlier versions do not tell."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'left_out'").fetchone():
        return False
    return connection.execute("SELECT 1 FROM left_out WHERE name = ?", (name,)).fetchone() is not None


def _compare(projection: Projection[Any], position: int, stored: dict[str, bytes], log: History) -> None:
    rows: dict[str, Any] = {}
    reached = 0
    while reached < position:
        page = log.read(reached, min(PAGE, position - reached))
        fold(projection, rows, page)
        reached = page[-1].position
    decoder = msgspec.json.Decoder(projection.row_type)
    for key in sorted(rows.keys() | stored.keys()):
        there = decoder.decode(stored[key]) if key in stored else None
        if there != rows.get(key):
            raise LogCorrupt(f"row {key} of the view {projection.name} is not what the log gives at {position}")
