"""The log's tables in SQLite: made, brought up to date, recognised. Layout and pragmas follow measurements: integer
streams keep the index compact; synchronous=FULL loses nothing at a power cut, NORMAL does.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from dms.adapters.eventlog.sqlite_archive import SCHEMA as ARCHIVE_SCHEMA
from dms.adapters.eventlog.sqlite_keys import SCHEMA as KEYS_SCHEMA
from dms.database import connect as connect_database
from dms.errors import LogCorrupt

FORMAT = 3  # PRAGMA user_version
PAGE_CACHE_KIB = 4096  # of each connection: four times as much made nothing faster at 200,000 events
OLDEST_READ = 1  # older ones are brought up to FORMAT when they are opened to be written
WITH_KEYS = 2  # the first format that has keys of personal data
WITH_ARCHIVE = 3  # the first format that has the archive's tables
APPLICATION_ID = 0x444D5331  # "DMS1"

_SCHEMA = f"""
CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, UNIQUE (name, version));
CREATE TABLE event (
  position INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  version INTEGER NOT NULL,
  topic INTEGER NOT NULL,
  time INTEGER NOT NULL,
  id BLOB NOT NULL,
  correlation BLOB NOT NULL,
  causation BLOB NOT NULL,
  traceparent TEXT NOT NULL,
  data BLOB NOT NULL,
  hash BLOB NOT NULL
);
CREATE UNIQUE INDEX event_of_stream ON event (stream, version);
PRAGMA application_id = {APPLICATION_ID};
"""
# No event, and no part of the chain: what this program keeps about the log. Older programs leave it alone.
_NOTES = "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_MIGRATIONS = {1: KEYS_SCHEMA, 2: ARCHIVE_SCHEMA}  # from format n to n + 1
COLUMNS = "position, stream, version, topic, time, id, correlation, causation, traceparent, data, hash"


def connect(database: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with our pragmas; may be handed between threads, never shared by two at once."""
    connection = connect_database(database, read_only=read_only)
    try:
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # a page that is split must leave no copy of a key behind
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Makes the tables, or brings those of an older program up to date, in one transaction."""
    found = format_of(connection)
    if found and _application_of(connection) != APPLICATION_ID:
        return  # another program's: refused by `check_format`, and left as it is
    steps = "" if found else _SCHEMA
    steps += "".join(_MIGRATIONS[number] for number in range(found or 1, FORMAT))
    if steps:
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {FORMAT}; COMMIT;")
    connection.execute(_NOTES)


def check_format(connection: sqlite3.Connection, database: Path) -> int:
    """The format found; an older one where the log is only read. Raises LogCorrupt."""
    version = format_of(connection)
    if _application_of(connection) != APPLICATION_ID or not OLDEST_READ <= version <= FORMAT:
        raise LogCorrupt(
            f"{database} is not an event log of format {FORMAT} (found format {version}); "
            "an older or newer program may have written it"
        )
    return version


def format_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _application_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])
