"""One view's table: what a fold changes in it, how far it has come, the snapshots it leaves, and look-ups."""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from dms.adapters.views import queries
from dms.adapters.views.database import Damaged, is_of_the_value
from dms.adapters.views.queries import Asked, Source, Sources
from dms.domain.event import Recorded
from dms.errors import LogUnavailable
from projections.base import LeftOut, Page, Projection, Where

log = logging.getLogger(__name__)

SNAPSHOT_EVENTS = 20_000  # between two snapshots of a view whose past can't be folded row by row
SNAPSHOTS_KEPT = 64  # of one view; beyond it every other one goes


class ChangedRows:
    """Satisfies projections.base.Rows: what a batch has changed, over what the table holds."""

    def __init__(self, stored: Callable[[str], Any]) -> None:
        self._stored = stored
        self.changed: dict[str, Any] = {}
        """Rows by key; None: deleted."""

    def get(self, key: str) -> Any:
        return self.changed[key] if key in self.changed else self._stored(key)

    def __setitem__(self, key: str, row: Any) -> None:
        self.changed[key] = row

    def pop(self, key: str, default: None) -> None:
        self.changed[key] = default


class ViewTable:
    """Folded into by folding.py, inside a transaction of that."""

    def __init__(self, projection: Projection[Any]) -> None:
        self.projection = projection
        self.position = 0
        self.left_out: LeftOut | None = None
        self.rows = ChangedRows(lambda key: self.get(key, self._connection))
        self._connection: sqlite3.Connection
        self._encode = msgspec.json.Encoder().encode
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(projection.row_type)
        self.sources: Sources = (Source(f"view_{projection.name}"),)
        names = ", ".join(("key", *projection.columns, "body"))
        marks = ",".join("?" * (2 + len(projection.columns)))
        self._upsert = f"INSERT OR REPLACE INTO view_{projection.name} ({names}) VALUES ({marks})"
        self._select = f"SELECT body FROM view_{projection.name} WHERE key = ?"
        self._delete = f"DELETE FROM view_{projection.name} WHERE key = ?"

    def open(self, connection: sqlite3.Connection) -> bool:
        """False when there is no table that this fold has made: it is to be `reset`."""
        self._connection = connection
        self.rows.changed.clear()
        self.position, self.left_out = 0, None
        name, version = self.projection.name, self.projection.version
        row = connection.execute("SELECT version, position FROM view WHERE name = ?", (name,)).fetchone()
        if row is None or row[0] != version or not isinstance(row[1], int) or row[1] < 0:
            return False
        self.position = row[1]
        found = connection.execute("SELECT position, topic, error, events FROM left_out WHERE name = ?", (name,))
        row = found.fetchone()
        self.left_out = None if row is None else LeftOut(*row)
        return True

    def reset(self) -> None:
        name = self.projection.name
        self._connection.executescript(
            f"BEGIN; DROP TABLE IF EXISTS view_{name}; {table_of(self.projection)}"
            f"DELETE FROM view WHERE name = '{name}'; DELETE FROM snapshot WHERE name = '{name}';"
            f"DELETE FROM left_out WHERE name = '{name}'; COMMIT;"
        )
        self.position, self.left_out = 0, None

    # --- being folded into ---------------------------------------------------------------------------
    def store(self) -> Exception | None:
        """Writes the changed rows: all, or none, and then the error of a row that can't be stored. Raises Damaged,
        sqlite3.Error for errors of the file."""
        if not self.rows.changed:
            return None
        fault: Exception | None = None
        self._connection.execute("SAVEPOINT store")
        try:
            self._write(self.rows.changed)
        except Exception as error:
            if isinstance(error, LogUnavailable) or (isinstance(error, sqlite3.Error) and not is_of_the_value(error)):
                raise  # of the file, not of an event
            self._connection.execute("ROLLBACK TO store")
            fault = error
        self._connection.execute("RELEASE store")
        self.rows.changed.clear()
        return fault

    def leave_out(self, recorded: Recorded, error: Exception) -> None:
        """Notes an event that could not be taken in."""
        name, before = self.projection.name, self.left_out
        self.left_out = (
            LeftOut(recorded.position, recorded.topic, type(error).__name__, 1)
            if before is None
            else structs.replace(before, events=before.events + 1)
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO left_out VALUES (?, ?, ?, ?, ?)", (name, *structs.astuple(self.left_out))
        )
        if str(self.left_out.events).strip("0") != "1":
            return  # the first is told, and then the 10th, the 100th, ...
        log.error(
            "view %s can't take in position %d (%s): %s; what it changes there stays as it was, all else goes on",
            name, recorded.position, recorded.topic, type(error).__name__,
            exc_info=error, extra={"action": "view_left_out", "view": name},
        )  # fmt: skip

    def reach(self, last: Recorded) -> None:
        """Everything up to that event is in the rows. `position` follows once that is committed."""
        reached = last.position
        self._connection.execute(
            "INSERT OR REPLACE INTO view VALUES (?, ?, ?, ?)",
            (self.projection.name, self.projection.version, reached, last.hash),
        )
        if reached // SNAPSHOT_EVENTS > self.position // SNAPSHOT_EVENTS and self.projection.streams("") is None:
            self._take_snapshot(reached)

    def _write(self, rows: Mapping[str, Any]) -> None:
        values = self.projection.column_values
        kept = [(k, *values(r), self._encode(r)) for k, r in rows.items() if r is not None]
        self._connection.executemany(self._upsert, kept)
        self._connection.executemany(self._delete, [(k,) for k, r in rows.items() if r is None])

    # --- snapshots -----------------------------------------------------------------------------------
    def _take_snapshot(self, position: int) -> None:
        name = self.projection.name
        found = self._connection.execute(f"SELECT key, body FROM view_{name}")
        rows = zlib.compress(msgspec.json.encode({key: msgspec.Raw(body) for key, body in found}))
        self._connection.execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", (name, position, rows))
        taken = self._connection.execute(
            "SELECT position FROM snapshot WHERE name = ? ORDER BY position", (name,)
        ).fetchall()
        if len(taken) > SNAPSHOTS_KEPT:
            self._connection.executemany(
                "DELETE FROM snapshot WHERE name = ? AND position = ?", [(name, old) for (old,) in taken[:-1:2]]
            )

    def snapshot(self, connection: sqlite3.Connection, position: int) -> tuple[int, dict[str, Any]]:
        """(position, rows by key) of the newest that is not behind `position`; (0, {}) for none. Raises Damaged."""
        found = connection.execute(
            "SELECT position, rows FROM snapshot WHERE name = ? AND position <= ? ORDER BY position DESC LIMIT 1",
            (self.projection.name, position),
        ).fetchone()
        if found is None:
            return 0, {}
        try:
            bodies = msgspec.json.decode(zlib.decompress(found[1]), type=dict[str, msgspec.Raw])
            return found[0], {key: self._decoder.decode(body) for key, body in bodies.items()}
        except (zlib.error, msgspec.DecodeError, TypeError) as error:
            raise Damaged(f"a snapshot of the view {self.projection.name} can't be read: {error}") from error

    # --- look-ups ------------------------------------------------------------------------------------
    def get(self, key: str, connection: sqlite3.Connection) -> Any:
        """As stored; None for no such row. Raises Damaged."""
        row = connection.execute(self._select, (key,)).fetchone()
        return None if row is None else self.decoded(key, row[0])

    def totals(
        self,
        connection: sqlite3.Connection,
        columns: Sequence[str],
        where: Where,
        sums: Sequence[str],
        sources: Sources | None = None,
    ) -> Mapping[tuple[Any, ...], tuple[int, ...]]:
        """See Views.totals."""
        found = connection.execute(*queries.totals(self.projection, sources or self.sources, columns, where, sums))
        return queries.as_totals(found.fetchall(), len(columns))

    def page(
        self,
        connection: sqlite3.Connection,
        asked: Asked,
        sources: Sources | None = None,
        others: Mapping[str, Any] | None = None,
    ) -> Page:
        """See Views.page. others: rows of the sources that are not the table's own. The keys are found first, by
        columns alone, so that what is passed over is not read."""
        rows = sources or self.sources
        found = connection.execute(*queries.page(self.projection, rows, asked)).fetchall()
        total = 0
        if asked.counted:
            counts = connection.execute(*queries.count(self.projection, rows, asked.where)).fetchall()
            total = sum(count for (count,) in counts)
        keys, known = [key for key, _ in found[: asked.limit]], others or {}
        return Page(
            rows=[known[key] if key in known else self.get(key, connection) for key in keys],
            next=queries.token(asked, *found[asked.limit - 1]) if len(found) > asked.limit else "",
            total=total,
        )

    def decoded(self, key: str, body: bytes) -> Any:
        """Raises Damaged."""
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, TypeError) as error:
            raise Damaged(f"row {key} of the view {self.projection.name} can't be read: {error}") from error


def table_of(projection: Projection[Any]) -> str:
    """SQL that makes the view's table. The columns stand before the body, which reaches into other pages: to look at
    them alone is quick."""
    name, indexed = projection.name, projection.columns if projection.indexed is None else projection.indexed
    declared = "".join(f", {column} {kind}" for column, kind in projection.columns.items())
    indexes = "".join(
        f"CREATE INDEX view_{name}_{columns.replace(', ', '_')} ON view_{name} ({columns}, key);" for columns in indexed
    )
    return f"CREATE TABLE view_{name} (key TEXT PRIMARY KEY{declared}, body BLOB NOT NULL) WITHOUT ROWID;{indexes}"
