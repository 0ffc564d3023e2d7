"""The keys of personal data as SQLite keeps them, in the log's own database.

Rows are only put at the end and only overwritten in place, so no page is ever split or merged with a key in it, which
would leave a copy behind.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing

from dms.adapters.eventlog.keyring import Keyring, KeyRow
from dms.adapters.eventlog.sqlite_errors import errors_of_the_library
from dms.database import emptied_journal
from dms.errors import LogUnavailable

SCHEMA = """
CREATE TABLE seal_key (
  number INTEGER PRIMARY KEY, scope TEXT NOT NULL, destroyed INTEGER NOT NULL, id BLOB NOT NULL, secret BLOB NOT NULL
);
CREATE INDEX seal_key_scope ON seal_key (scope);
CREATE INDEX seal_key_id ON seal_key (id);
"""
INSERT = "INSERT INTO seal_key (scope, destroyed, id, secret) VALUES (?, 0, ?, ?)"
_OF_SCOPE = "SELECT scope, id, secret FROM seal_key WHERE scope = ? AND NOT destroyed"
_OF_ID = "SELECT secret FROM seal_key WHERE id = ? AND NOT destroyed LIMIT 1"
_KNOWN = "SELECT 1 FROM seal_key WHERE id = ? LIMIT 1"
_DESTROYED = "SELECT count(*) FROM seal_key WHERE scope = ? AND destroyed"
_DESTROY = "UPDATE seal_key SET destroyed = 1, secret = zeroblob(32) WHERE scope = ? AND NOT destroyed"
BUSY_PAUSE_SECONDS = 0.05
TRUNCATE_SECONDS = 10.0  # readers may hold the write-ahead log for a moment


@errors_of_the_library
class SQLiteKeys:
    """Implements keyring.KeyRows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """connection: read-only, and this object's alone."""
        self._connection = connection

    def close(self) -> None:
        self._connection.close()

    def of_scope(self, scope: str) -> KeyRow | None:
        row: KeyRow | None = self._connection.execute(_OF_SCOPE, (scope,)).fetchone()
        return row

    def secret(self, key_id: bytes) -> bytes | None:
        row = self._connection.execute(_OF_ID, (key_id,)).fetchone()
        return None if row is None else row[0]

    def is_known(self, key_id: bytes) -> bool:
        return self._connection.execute(_KNOWN, (key_id,)).fetchone() is not None


def destroy(connection: sqlite3.Connection, scopes: Sequence[str], keyring: Keyring) -> int:
    """Overwrites the keys in the database, and empties its write-ahead log, which has older copies of the pages;
    answers how many of theirs are destroyed now, also by an earlier try. connection: writing, and used by nobody else
    meanwhile. keyring: forgets them, also when the write-ahead log can't be emptied. Blocking. Raises LogUnavailable,
    sqlite3.Error."""
    with closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        for scope in scopes:
            connection.execute(_DESTROY, (scope,))
        counts = [int(connection.execute(_DESTROYED, (scope,)).fetchone()[0]) for scope in scopes]
        connection.execute("COMMIT")
        keyring.forget(scopes)
        deadline = time.monotonic() + TRUNCATE_SECONDS
        while not emptied_journal(connection):  # between two tries others write
            if time.monotonic() > deadline:
                raise LogUnavailable("the keys are gone, but their bytes still stand in the write-ahead log: try again")
            time.sleep(BUSY_PAUSE_SECONDS)
        return sum(counts)
