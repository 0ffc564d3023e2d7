"""Retention: what is archived is read as before, by everything that reads the log."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import random
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.persistence import IntegrityError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.eventlog.archive_writer import SegmentArchive, Sizes
from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.recorder import MovedRows
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.application.deployments.ownership import check_free_for
from dms.application.records.export import export_log
from dms.application.records.retention import DAY_US, Retention
from dms.cli.export_file import export_lines
from dms.domain.event import Recorded, encode, new_id, new_id_bytes
from dms.domain.hold import EXPIRED, Hold
from dms.domain.job import Job
from dms.domain.payment import Payment
from dms.domain.resources import Resources
from dms.domain.retention import is_closable, is_closed
from dms.domain.sealing import ERASED
from dms.errors import Conflict, Forbidden, InvalidInput
from dms.offline import export_checker, import_export
from tests.fixtures import prepared
from tests.fixtures.archiving import IDENTITY, SMALL, STEP_US, archive_all, archived, copied, written
from tests.fixtures.histories import START, new_job
from tests.fixtures.waiting import wait_for
from tests.fixtures.worlds import history
from tests.integration.eventlog.archive_reading import (
    all_read,
    database,
    ended_job,
    exports,
    fault,
    rows,
    segment_files,
)

__all__ = ["database"]


ROOT = Path(__file__).parents[3]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10_000), st.integers(20, 250), st.floats(0, 1.1), st.integers(1, 60), st.integers(1, 20))
@pytest.mark.slow
def test_all_that_is_read_is_the_same_with_and_without_an_archived_prefix(
    seed: int, steps: int, share: float, segment: int, block: int
) -> None:
    async def run(folder: Path) -> None:
        plain = await written(folder / "plain", steps, seed)
        other = copied(plain, folder / "other")
        await archived(other, START + int(share * steps * STEP_US), Sizes(segment, block, 5))
        assert all_read(other, seed) == all_read(plain, seed)
        assert await exports(other) == await exports(plain)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_rows_of_what_has_ended_leave_the_table_and_no_others(tmp_path: Path) -> None:
    plain = await written(tmp_path / "plain", 300)
    before = SQLiteRecorder(plain, own=False)
    events = LogStore(before).read(0, 10_000)
    before.close()
    streams: dict[str, list[Recorded]] = {}
    for event in events:
        streams.setdefault(event.originator_id, []).append(event)
    kept = {name for name, found in streams.items() if not (is_closable(name) and is_closed(name, found))}
    assert await archived(plain) == sum(len(found) for name, found in streams.items() if name not in kept)
    assert rows(plain) == sum(len(streams[name]) for name in kept) > 0
    assert rows(plain, "SELECT count(DISTINCT stream) FROM event") == len(kept)
    assert await archived(plain) == 0  # and nothing is left to do


async def test_an_archived_hold_still_says_whose_job_it_is_and_goes_on(tmp_path: Path) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    hold = Hold(new_id())
    hold.place(log.pseudonym("theirs"), Resources(), (), START, gpus_shared=False)
    hold.end(EXPIRED)
    await log.save(hold)
    assert await archive_all(log) == 2
    log._aggregates.evict([hold.id])
    check_free_for(log, hold.key, "theirs")
    with pytest.raises(Forbidden):
        check_free_for(log, hold.key, "another's")
    again = log.load(Hold, hold.key)
    assert again is not None
    again.place(log.pseudonym("theirs"), Resources(), (), START, gpus_shared=False)
    await log.save(again)
    assert [event.originator_version for event in log.store.read_stream(hold.id)] == [1, 2, 3]
    assert await archive_all(log) == 0  # it is open again
    await log.close()


OLD, YOUNG = START, START + 5000


@pytest.mark.parametrize(
    ("times", "archived_up_to", "held_back"),
    [
        ([YOUNG] * 3, 0, 0),
        ([OLD] * 3 + [YOUNG] * 2, 3, 0),
        ([OLD] * 10 + [YOUNG] + [OLD] * 100, 111, 0),  # a clock that was ahead for a moment
        ([YOUNG] + [OLD] * 50, 51, 0),
        ([OLD] * 39 + [YOUNG] + [OLD] * 20, 60, 0),  # at the end of a segment
        ([OLD] * 3 + [YOUNG] * 30 + [OLD], 3, 1),  # one that was behind
        ([OLD] * 3 + [YOUNG] * 30 + [OLD] * 6 + [YOUNG] * 30, 3, 6),
        ([YOUNG] * 30 + [OLD] * 6, 0, 6),
    ],
)
async def test_what_is_old_enough_is_archived_whatever_a_wrong_clock_said_of_few(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, times: list[int], archived_up_to: int, held_back: int
) -> None:
    clock = iter(times)
    log = SQLiteEventLog(tmp_path / "events.db", lambda: next(clock))
    await log.start()
    for _ in times:
        await log.save(new_job())
    await archive_all(log, START + 4999)
    assert log.first == archived_up_to + 1
    told = [record.getMessage() for record in caplog.records if "are not archived yet" in record.getMessage()]
    assert [text.split()[0] for text in told[-1:]] == ([str(held_back)] if held_back else [])
    await log.close()


async def test_a_folder_of_somebody_elses_in_the_archive_holds_nothing_up(tmp_path: Path) -> None:
    database = await written(tmp_path / "log", 120)
    stray, left = (database.parent / "archive" / f"events-{name}.part" for name in ("theirs", "left"))
    stray.mkdir(parents=True)
    left.touch()
    assert await archived(database) > 0
    assert (stray.exists(), left.exists()) == (True, False)


async def test_each_segment_is_an_export_that_proves_itself_anywhere(database: Path) -> None:
    files = segment_files(database)
    position = 0
    for path in files:
        checker = export_checker()
        records = list(checker.records(export_lines(path)))
        assert checker.header is not None
        assert checker.header.first == records[0].position == position + 1
        position = records[-1].position
        lines = gzip.decompress(path.read_bytes())  # all members: what zcat prints
        assert len(lines.splitlines()) == len(records) + 2
        assert path.stat().st_mode & 0o777 == 0o600
    recorder = SQLiteRecorder(database, own=False)
    assert (position, len(files)) == (recorder.head, -(-position // SMALL.segment_events))
    recorder.close()


async def test_audit_verify_takes_a_segment_file_and_says_what_it_holds(database: Path) -> None:
    def verify(path: Path) -> subprocess.CompletedProcess[str]:
        return prepared.run(["audit", "verify", "--export", str(path)], os.environ)

    second = segment_files(database)[1]
    done = verify(second)
    assert done.returncode == 0, done.stderr
    assert "intact: 40 events, positions 41 to 80 of the log" in done.stdout
    whole = bytearray(second.read_bytes())
    whole[len(whole) // 2] ^= 4
    second.write_bytes(whole)
    done = verify(second)
    assert done.returncode == 1
    assert "does not verify" in done.stderr
    second.write_bytes(bytes(whole[: len(whole) // 3]))
    assert "damaged" in verify(second).stderr


async def test_a_whole_export_that_is_compressed_can_be_imported(database: Path, tmp_path: Path) -> None:
    log = SQLiteEventLog(database)
    await log.start()
    whole = b"".join([chunk async for chunk in export_log(log, IDENTITY)])
    await log.close()
    packed = tmp_path / "log.ndjson.gz"
    packed.write_bytes(gzip.compress(whole))
    assert max(import_export(export_lines(packed), tmp_path / "copy.db")) == log.head
    assert fault(tmp_path / "copy.db") == ""


async def test_a_reward_claimed_late_follows_the_archived_events_of_its_job(tmp_path: Path) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    key = await ended_job(log)
    version = log.head
    await archive_all(log)
    assert rows(tmp_path / "events.db") == 0
    await log.close()
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    assert (log.head, log.first) == (version, version + 1)
    job = log.load(Job, key)
    assert job is not None
    job.claim_reward()
    await log.save(job)
    job.settle_reward("done")
    await log.save(job)
    assert [event.originator_version for event in log.recorder.read_stream(f"job-{key}")] == [*range(1, version + 3)]
    assert rows(tmp_path / "events.db") == 2
    assert await archive_all(log) == 2
    assert rows(tmp_path / "events.db") == 0
    claim = log.recorder.select_events(job.id, gt=version, limit=1)
    with pytest.raises(IntegrityError):  # the table's unique index knows nothing of that version any more
        log.recorder.insert_events(claim)
    assert max(log.verify()) == log.head == version + 2
    await log.close()


async def test_a_payment_stays_where_its_single_use_is_proven(tmp_path: Path) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    first = Payment("aa")
    first.use("job 1")
    await log.save(first)
    await archive_all(log)
    second = Payment("aa")  # decided by a program that has not read the log
    second.use("job 2")
    with pytest.raises(Conflict):
        await log.save(second)
    assert rows(tmp_path / "events.db") == 1
    await log.close()


@pytest.mark.slow
async def test_commands_go_on_while_rows_leave_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for a few rows at most, and positions stay without a gap."""
    database = await written(tmp_path / "data", 1500)
    log = SQLiteEventLog(database)
    await log.start()
    turns, drop = [], log.recorder.drop_archived

    def watched(parts: Sequence[MovedRows]) -> None:
        turns.append(sum(part.rows for part in parts))
        drop(parts)

    monkeypatch.setattr(log.recorder, "drop_archived", watched)
    moving = asyncio.create_task(archive_all(log, START + DAY_US))  # not what is written meanwhile
    saved = 0
    while not moving.done():
        await log.save(new_job())
        saved += 1
    assert await moving == sum(turns) > 1000
    assert max(turns) <= SMALL.rows_a_turn
    assert saved > 10
    assert max(log.verify()) == log.head
    await log.close()


def in_the_clear(folder: Path) -> Path:
    """A log as programs wrote it before personal fields were sealed."""
    folder.mkdir()
    recorder = SQLiteRecorder(folder / "events.db")
    moments = itertools.count(START, STEP_US)
    for aggregate in history(random.Random(5), 120):
        drafts = [
            Draft(aggregate.id, version, e.TOPIC, encode(e), e.VERSION, next(moments), new_id_bytes(), b"", b"", "")
            for version, e in aggregate.collect_pending()
        ]
        recorder.insert(drafts)
        recorder.commit()
    recorder.close()
    return folder / "events.db"


@pytest.mark.parametrize("version", [1, 2])
async def test_a_log_of_an_older_format_gets_its_archive_in_place(tmp_path: Path, version: int) -> None:
    new = in_the_clear(tmp_path / "new") if version == 1 else await written(tmp_path / "new", 120)
    await asyncio.to_thread((tmp_path / "old").mkdir)
    old = tmp_path / "old" / "events.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(FIRST_FORMAT + (SECOND_FORMAT if version == 2 else ""))
        connection.execute(f"ATTACH '{new}' AS new")
        for table in ("stream", "topic", "event", *(("seal_key",) if version == 2 else ())):
            connection.execute(f"INSERT INTO {table} SELECT * FROM new.{table}")
        connection.commit()
    assert all_read(old, 1) == all_read(new, 1)  # as it is, by a reader that changes nothing
    assert rows(old, "PRAGMA user_version") == version
    assert await archived(old) > 0
    assert rows(old, "PRAGMA user_version") == 3
    assert all_read(old, 1) == all_read(new, 1)


async def test_erasing_a_person_takes_along_what_is_archived_of_them(tmp_path: Path) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    key = await ended_job(log)
    await archive_all(log)
    (asked,) = await log.read(0, 1)
    assert isinstance(asked.event, Job.ServiceRequested)
    assert asked.event.request.params.image_id != ERASED
    assert await log.destroy_seal_keys([key]) == 1
    (event, *_) = log.store.read_stream(f"job-{key}")
    assert isinstance(event.event, Job.ServiceRequested)
    assert event.event.request.params.image_id == ERASED
    assert event.data == asked.data
    assert max(log.verify()) == log.head
    await log.close()


FIRST_FORMAT = """
PRAGMA journal_mode = WAL;
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
PRAGMA user_version = 1;
PRAGMA application_id = 1145918257;
"""


SECOND_FORMAT = """
CREATE TABLE seal_key (
  number INTEGER PRIMARY KEY, scope TEXT NOT NULL, destroyed INTEGER NOT NULL, id BLOB NOT NULL, secret BLOB NOT NULL
);
CREATE INDEX seal_key_scope ON seal_key (scope);
CREATE INDEX seal_key_id ON seal_key (id);
PRAGMA user_version = 2;
"""


async def test_the_daily_run_archives_what_the_setting_says_and_never_when_it_says_so(tmp_path: Path) -> None:
    database = await written(tmp_path / "data", 400)
    log = SQLiteEventLog(database)
    await log.start()
    now = START + 10 * DAY_US
    archive = SegmentArchive(log, IDENTITY)
    never = Retention(archive, 0, lambda: now)
    await never.start()
    with pytest.raises(InvalidInput, match="older_than_days"):
        await never.archive(None)
    await never.close()
    early = Retention(archive, 11, lambda: now)
    assert (await early.archive(None)).segment is None
    retention = Retention(archive, 9, lambda: now)
    await retention.start()
    await wait_for(lambda: log.first == log.head + 1)
    await retention.close()
    assert max(log.verify()) == log.head
    await log.close()


async def test_the_daily_run_makes_no_file_for_a_handful_of_events(tmp_path: Path) -> None:
    database = await written(tmp_path / "data", 20)
    log = SQLiteEventLog(database)
    await log.start()
    retention = Retention(SegmentArchive(log, IDENTITY), 1, lambda: START + 10 * DAY_US)
    assert (await retention.archive(None, at_least=200)).segment is None
    assert (await retention.archive(None)).segment is not None
    await log.close()
