"""What a database's own trouble is above the recorder's seam: eventsourcing's errors, which say what it means."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import IntegrityError, InternalError, OperationalError, PersistenceError

from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.recorder import LogRecorder, is_passing
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.domain.event import new_id_bytes

DRAFT = Draft("job-1", 1, "job.expired", b'{"reason": "old"}', 1, 1, new_id_bytes(), b"", b"", "")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[SQLiteRecorder]:
    made = SQLiteRecorder(tmp_path / "events.db")
    made.insert([DRAFT])
    made.commit()
    yield made
    made.close()


READINGS: dict[str, Callable[[LogRecorder], Any]] = {
    "read": lambda log: log.read(0, 9),
    "read of a stream": lambda log: log.read(0, 9, stream="job-1"),
    "read_stream": lambda log: log.read_stream("job-1"),
    "select_events": lambda log: log.select_events("job-1"),
    "select_notifications": lambda log: log.select_notifications(0, 9),
    "max_notification_id": lambda log: log.max_notification_id(),
    "streams": lambda log: log.streams("job"),
    "lean_rows": lambda log: log.lean_rows(0, 9, 9, ()),
    "older_until": lambda log: log.older_until(9, 9),
    "streams_between": lambda log: log.streams_between(0, 9, 9),
    "unchecked": lambda log: log.unchecked(0, 9),
    "position_at": lambda log: log.position_at(9),
    "time_at": lambda log: log.time_at(2),
    "previous_hash": lambda log: log.previous_hash(2),
    "a key of a scope": lambda log: log.keys.secret("job-2"),
    "a key by its id": lambda log: log.keys.open(f"{bytes(16).hex()}.AAAA", "job.failed"),
    "the archive's end": lambda log: log.archived.last(),
    "the archive's segments": lambda log: log.archived.index.segments(0, 9),
    "a stream's archived part": lambda log: log.archived.index.version("job-1"),
    "first": lambda log: log.first,
    "keys as they stand": lambda log: log.key_rows(),
}


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_log_whose_tables_are_gone_can_not_be_read_whoever_asks(
    recorder: SQLiteRecorder, reading: Callable[[LogRecorder], Any]
) -> None:
    with closing(sqlite3.connect(recorder.database)) as other, other:
        for (table,) in other.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            other.execute(f"DROP TABLE {table}")
    with pytest.raises(InternalError, match="no such table") as caught:
        reading(recorder)
    assert not is_passing(caught.value)


WRITINGS: dict[str, Callable[[LogRecorder], Any]] = {
    "insert": lambda log: log.insert([DRAFT]),
    "probe": lambda log: log.probe(),
    "set_note": lambda log: log.set_note("a", b"b"),
    "drop_archived": lambda log: log.drop_archived([]),
    "note_archived": lambda log: log.note_archived(None, []),  # type: ignore[arg-type]
    "destroy_keys": lambda log: log.destroy_keys(["job-1"]),
}


@pytest.mark.parametrize("writing", WRITINGS.values(), ids=WRITINGS)
def test_a_log_that_somebody_else_holds_is_passing_trouble(
    recorder: SQLiteRecorder, writing: Callable[[LogRecorder], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.database.BUSY_SECONDS", 0.0)  # of the connection that destroys keys
    recorder.writer.connection.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(recorder.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked") as caught:
            writing(recorder)
    assert is_passing(caught.value)


def test_a_version_that_is_there_is_a_conflict(recorder: SQLiteRecorder) -> None:
    with pytest.raises(IntegrityError) as caught:
        recorder.insert([DRAFT])
    assert not is_passing(caught.value)


def test_what_is_closed_says_so_and_nothing_of_the_database(recorder: SQLiteRecorder) -> None:
    other = recorder.reopened()
    other.close()
    other.interrupt()  # what is over needs no end
    with pytest.raises(PersistenceError):
        other.read(0, 9)
