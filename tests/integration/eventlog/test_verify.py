"""The hash chain finds whatever was done to the log behind its back, and names the place."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.verifier import Verifier
from dms.errors import LogCorrupt
from tests.fixtures.histories import new_job, paid

COLUMNS = ("stream", "version", "topic", "time", "id", "correlation", "causation", "traceparent", "data", "hash")
ODD = ["'text'", "x'00ff'", "'17'", "-1", "1.5", "9223372036854775807", "x''", "''"]


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """Twelve events of three jobs; the log is closed."""
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    for number in range(3):
        job = new_job()
        job.report_fund_status(paid(f"0x{number}"))
        job.accept_funding("trust")
        await log.save(job)
    await log.close()
    return tmp_path / "events.db"


def tamper(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(sql).rowcount == 1, sql


def stored(database: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT * FROM event").fetchall()


def verify(database: Path) -> Iterator[int]:
    recorder = SQLiteRecorder(database, own=False)
    try:
        yield from Verifier(recorder).chain(batch=5)
    finally:
        recorder.close()


def test_an_untouched_log_verifies_in_batches(database: Path) -> None:
    assert list(verify(database)) == [5, 10, 12]


@pytest.mark.slow
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("value", ODD)
def test_any_value_put_in_place_of_another_is_found(database: Path, column: str, value: str) -> None:
    before = stored(database)
    tamper(database, f"UPDATE event SET {column} = {value} WHERE position = 7")
    if stored(database) == before:  # it stood there already, or SQLite made it the same
        assert list(verify(database)) == [5, 10, 12]
        return
    with pytest.raises(LogCorrupt, match=r"position 7 "):
        list(verify(database))


@pytest.mark.parametrize("column", ["id", "correlation", "causation", "data", "hash"])
def test_bytes_that_became_text_are_found(database: Path, column: str) -> None:
    """The same bytes, but of another type: a tool that edits by SQL leaves such rows."""
    if column == "data":  # the others are no UTF-8
        tamper(database, "UPDATE event SET data = CAST(data AS TEXT) WHERE position = 7")
    else:
        tamper(database, f"UPDATE event SET {column} = hex({column}) WHERE position = 7")
    with pytest.raises(LogCorrupt, match=r"position 7 "):
        list(verify(database))


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM event WHERE position = 7",
        "UPDATE event SET position = 70 WHERE position = 7",
        "UPDATE topic SET name = 'job.other' WHERE id = 1",
        "UPDATE topic SET version = 'x' WHERE id = 1",
        "DELETE FROM topic WHERE id = 1",
        "UPDATE stream SET name = 'job-other' WHERE id = 1",
        "UPDATE stream SET name = x'ff' WHERE id = 1",
        "DELETE FROM stream WHERE id = 1",
    ],
)
def test_what_was_removed_moved_or_renamed_is_found(database: Path, sql: str) -> None:
    tamper(database, sql)
    with pytest.raises(LogCorrupt, match=r"position \d+ |topic"):
        list(verify(database))


def test_events_cut_off_at_the_end_leave_a_whole_chain(database: Path) -> None:
    """What no chain can find: compare with a head that the other side countersigned."""
    tamper(database, "DELETE FROM event WHERE position = 12")
    assert list(verify(database)) == [5, 10, 11]


def test_pages_of_the_file_that_were_overwritten_are_found(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 4096))
    with pytest.raises(LogCorrupt):
        list(verify(database))


def test_a_log_whose_last_hash_is_no_hash_is_not_written_on(database: Path) -> None:
    tamper(database, "UPDATE event SET hash = 'text' WHERE position = 12")
    with pytest.raises(LogCorrupt, match="position 12 "):
        SQLiteEventLog(database)
    tamper(database, "UPDATE event SET hash = x'00' WHERE position = 12")
    SQLiteEventLog(database).recorder.close()  # the refused one let go of the file


# --- at random -----------------------------------------------------------------------------------------
RANDOM_EDITS = 1000


def flip(connection: sqlite3.Connection, rng: random.Random, position: int) -> None:
    column = rng.choice(["data", "hash", "id", "correlation"])
    (value,) = connection.execute(f"SELECT {column} FROM event WHERE position = ?", (position,)).fetchone()
    edited = bytearray(value)
    edited[rng.randrange(len(edited))] ^= 1 << rng.randrange(8)
    connection.execute(f"UPDATE event SET {column} = ? WHERE position = ?", (bytes(edited), position))


def put_anothers(connection: sqlite3.Connection, rng: random.Random, position: int) -> None:
    """What was decided at another time, or of another job."""
    (own,) = connection.execute("SELECT data FROM event WHERE position = ?", (position,)).fetchone()
    others = connection.execute("SELECT data FROM event WHERE data != ?", (own,)).fetchall()
    connection.execute("UPDATE event SET data = ? WHERE position = ?", (*rng.choice(others), position))


def swap(connection: sqlite3.Connection, _: random.Random, position: int) -> None:
    for old, new in ((position, -1), (position + 1, position), (-1, position + 1)):
        connection.execute("UPDATE event SET position = ? WHERE position = ?", (new, old))


def cut_out(connection: sqlite3.Connection, _: random.Random, position: int) -> None:
    connection.execute("DELETE FROM event WHERE position = ?", (position,))


@pytest.mark.slow
def test_a_thousand_edits_at_random_are_each_found_at_the_first_position_that_was_touched(
    database: Path, tmp_path: Path
) -> None:
    rng, whole, copy = random.Random(20261129), database.read_bytes(), tmp_path / "copy.db"
    for _ in range(RANDOM_EDITS):
        edit, position = rng.choice([flip, put_anothers, swap, cut_out]), rng.randint(1, 11)
        copy.write_bytes(whole)
        with closing(sqlite3.connect(copy)) as connection, connection:
            edit(connection, rng, position)
        with pytest.raises(LogCorrupt, match=rf"position {position} "):
            list(verify(copy))
        for rest in ("-wal", "-shm"):
            copy.with_name(f"copy.db{rest}").unlink(missing_ok=True)
