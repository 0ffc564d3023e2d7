"""Retention: what is archived is read as before, by everything that reads the log."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.eventlog.archive_writer import SegmentArchive, Sizes
from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.verifier import Verifier
from dms.application.records.export import export_job, export_log
from dms.application.records.retention import DAY_US, Retention
from dms.cli.export_file import export_lines
from dms.domain.deployment import Deployment
from dms.domain.event import Recorded, encode, new_id_bytes
from dms.domain.job import Job
from dms.domain.payment import Payment
from dms.domain.retention import is_closable, is_closed
from dms.domain.sealing import ERASED
from dms.errors import ArchiveUnreadable, Conflict, InvalidInput, LogCorrupt, LogUnavailable
from dms.offline import Audit, Replay, export_checker, import_export
from tests.fixtures import prepared
from tests.fixtures.archiving import IDENTITY, SMALL, STEP_US, archive_all, archived, copied, written
from tests.fixtures.histories import START, new_job, paid
from tests.fixtures.waiting import wait_for
from tests.fixtures.worlds import history

TOPICS = (Job.ServiceRequested.TOPIC, Job.Completed.TOPIC, Deployment.Accepted.TOPIC)
ROOT = Path(__file__).parents[3]


def all_read(database: Path, seed: int) -> dict[str, Any]:
    """What every way to read gives."""
    random_ = random.Random(seed)
    recorder = SQLiteRecorder(database, own=False)
    try:
        head = recorder.head
        whole = recorder.read(0, head + 1)
        streams = sorted({event.originator_id for event in whole})
        found: dict[str, Any] = {
            "head": (head, recorder.reader.end(), recorder.max_notification_id()),
            "whole": whole,
            "links": [recorder.previous_hash(position) for position in range(1, head + 2)],
            "streams": [recorder.read_stream(name) for name in streams],
            "times": [
                recorder.position_at(moment) for moment in range(START - 1, START + STEP_US * head, STEP_US // 2)
            ],
            "verified": max(Verifier(recorder).chain(5)),
            "notifications": recorder.select_notifications(random_.randint(0, head), 50, topics=TOPICS),
        }
        for number in range(60):
            after, until = random_.randint(0, head), random_.choice([None, random_.randint(0, head)])
            limit, topics = random_.randint(1, 60), random_.choice([(), TOPICS])
            stream = random_.choice(["", *streams])
            found[f"read {number}"] = recorder.read(after, limit, topics=topics, stream=stream, until=until)
            version = random_.randint(0, 9)
            found[f"stream {number}"] = recorder.read_stream(random_.choice(streams), version)
            found[f"library {number}"] = recorder.select_events(
                random_.choice(streams), gt=version, lte=version + 3, desc=number % 2 == 0, limit=2
            )
    finally:
        recorder.close()
    replayed = Replay(database, None, 0)
    try:
        found["folded"] = sum(replayed.fold())
        found["views"] = {name: rows for name, (_, rows) in replayed.views.items()}
        found["scanned"] = sum(replayed.scan())
    finally:
        replayed.close()
    return found


async def exports(database: Path) -> list[bytes]:
    """The whole log, and each job; then everything as a subscriber from 0 on gets it."""
    log = SQLiteEventLog(database)
    await log.start()
    try:
        chunks = [chunk async for chunk in export_log(log, IDENTITY)]
        whole = await log.read(0, log.head)
        for job_id in sorted({e.correlation_id for e in whole if e.topic == Job.ServiceRequested.TOPIC}):
            chunks += [chunk async for chunk in export_job(log, IDENTITY, job_id)]
        position = 0
        async for batch in log.subscribe(0):
            chunks += [event.hash for event in batch]
            position = batch[-1].position
            if position == log.head:
                break
        return b"".join(chunks).splitlines()
    finally:
        await log.close()


def rows(database: Path, sql: str = "SELECT count(*) FROM event") -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(sql).fetchone()[0])


def change(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(sql).rowcount == 1, sql


def fault(database: Path) -> str:
    recorder = SQLiteRecorder(database, own=False)
    try:
        for _ in Verifier(recorder).chain(5):
            pass
    except LogCorrupt as error:
        return str(error)
    finally:
        recorder.close()
    return ""


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


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """Some 200 events, all archived."""
    found = await written(tmp_path / "data", 150)
    await archived(found)
    return found


def segment_files(database: Path) -> list[Path]:
    return sorted((database.parent / "archive").iterdir())


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


async def test_only_events_that_are_all_old_enough_are_archived(tmp_path: Path) -> None:
    times = iter([START, START + 5000, START + 1, START + 2, START + 9000])  # a clock that was set back
    log = SQLiteEventLog(tmp_path / "events.db", lambda: next(times))
    await log.start()
    for _ in range(5):
        await log.save(new_job())
    assert log.first == 1
    await archive_all(log, START - 1)
    assert log.first == 1
    await archive_all(log, START + 4999)
    assert log.first == 2  # the second is younger, so those behind it wait
    await archive_all(log, START + 5000)
    assert log.first == 5
    await log.close()


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


# --- going on ------------------------------------------------------------------------------------------
async def ended_job(log: SQLiteEventLog) -> str:
    job = new_job()
    job.report_fund_status(paid())
    job.accept_funding("trust")
    job.trigger(Job.DeploymentResponded(success=True, content=""))
    job.trigger(Job.Completed(duration_seconds=5.0))
    await log.save(job)
    return job.key


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
    job, stale = log.load(Job, key), Job.project(None, log.store.read_stream(f"job-{key}"))
    assert job is not None
    assert stale is not None
    job.claim_reward()
    await log.save(job)
    job.settle_reward("done")
    await log.save(job)
    assert [event.originator_version for event in log.recorder.read_stream(f"job-{key}")] == [*range(1, version + 3)]
    assert rows(tmp_path / "events.db") == 2
    assert await archive_all(log) == 2
    assert rows(tmp_path / "events.db") == 0
    stale.claim_reward()
    with pytest.raises(Conflict):  # the table's unique index knows nothing of that version any more
        await log.save(stale)
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
async def test_commands_go_on_while_rows_leave_the_table(tmp_path: Path) -> None:
    """Each waits for a few rows at most, and positions stay without a gap."""
    database = await written(tmp_path / "data", 1500)
    log = SQLiteEventLog(database)
    await log.start()
    moving = asyncio.create_task(archive_all(log, START + DAY_US))  # not what is written meanwhile
    longest, saved = 0.0, 0
    while not moving.done():
        started = time.perf_counter()
        await log.save(new_job())
        longest, saved = max(longest, time.perf_counter() - started), saved + 1
    assert await moving > 1000
    assert saved > 10
    assert longest < 5
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


# --- what goes wrong -----------------------------------------------------------------------------------
@pytest.mark.slow
async def test_a_kill_at_any_point_loses_and_doubles_nothing(tmp_path: Path) -> None:
    plain = await written(tmp_path / "plain", 45)
    expected = all_read(plain, 1)
    uncut = copied(plain, tmp_path / "uncut")
    await archived(uncut)
    for count in itertools.count():
        database = copied(plain, tmp_path / f"killed-{count}")
        done = prepared.run([str(database), str(count)], os.environ, program="tests.fixtures.archiving")
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        assert all_read(database, 1) == expected
        await archived(database)
        assert all_read(database, 1) == expected
        assert [p.name for p in segment_files(database)] == [p.name for p in segment_files(uncut)]
        assert rows(database) == rows(uncut)
        if done.returncode == 0:
            break
    assert count > 20  # so many places there were


async def test_a_missing_segment_is_told_with_its_file_and_positions(database: Path) -> None:
    second = segment_files(database)[1]
    second.rename(second.with_suffix(".away"))
    assert f"positions 41 to 47 can't be read from the archive's {second}" in fault(database)
    log = SQLiteEventLog(database)
    await log.start()
    assert len(await log.read(0, 40)) == 40  # what others hold is read
    with pytest.raises(ArchiveUnreadable, match=r"positions 41 to 47.*No such file.*put the file back"):
        await log.read(0, 41)
    with pytest.raises(ArchiveUnreadable, match="41 to 47"):
        async for _ in export_log(log, IDENTITY):
            pass
    states = [one.state for one in await SegmentArchive(log, IDENTITY).segments(0, 100)]
    assert states[:3] == ["ok", "missing", "ok"]
    await log.close()
    second.with_suffix(".away").rename(second)
    assert fault(database) == ""


async def test_an_absurd_length_in_the_index_takes_no_memory(database: Path) -> None:
    change(database, "UPDATE block SET length = 1 << 60 WHERE first = 48")
    fault(database)  # a block ends where its compressed part does
    assert await exports(database)


async def test_a_log_that_goes_on_behind_a_missing_segment_needs_it_for_nothing(tmp_path: Path) -> None:
    """Also when all events up to the head are in files alone."""
    database = await written(tmp_path / "data", 0)
    log = SQLiteEventLog(database)
    await log.start()
    job = new_job()
    job.report_fund_status(paid("0x1"))
    job.accept_funding("trust")
    job.trigger(Job.DeploymentResponded(success=True, content=""))
    job.trigger(Job.Completed(duration_seconds=1.0))
    await log.save(job)
    await archive_all(log)
    link = (await log.read(0, 100))[-1].hash
    await log.close()
    assert rows(database) == 0
    segment_files(database)[-1].unlink()
    log = SQLiteEventLog(database)
    await log.start()
    assert log.previous_hash(log.first) == link
    await log.save(new_job())
    assert await archive_all(log) == 0
    assert len(segment_files(database)) == 1
    await log.close()


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.97])
async def test_a_damaged_segment_is_never_read_as_if_it_were_whole(database: Path, place: float) -> None:
    second = segment_files(database)[1]
    whole = bytearray(second.read_bytes())
    whole[int(place * len(whole))] ^= 16
    second.write_bytes(whole)
    assert second.name in fault(database)
    second.write_bytes(bytes(whole[: int(place * len(whole))]))
    assert second.name in fault(database)


async def test_a_segment_written_again_with_another_history_is_found_where_it_differs(database: Path) -> None:
    first = segment_files(database)[0]
    lines = list(export_lines(first))
    blocks = [lines[:1], *(lines[start : start + 7] for start in range(1, 41, 7)), lines[41:]]
    blocks[2][1] = blocks[2][1].replace(b'"time":1', b'"time":2')
    members = [gzip.compress(b"".join(block), 6, mtime=0) for block in blocks]
    first.write_bytes(b"".join(members))
    change(database, f"UPDATE block SET length = {len(members[2])} WHERE first = 8")
    assert "position 9 " in fault(database)
    assert f"{first.name} was changed" in fault(database)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM archived WHERE rowid IN (SELECT 1)",
        "DELETE FROM segment WHERE first = 41",
        "DELETE FROM block WHERE first = 48",
        "UPDATE segment SET hash = x'00' WHERE first = 41",
        "UPDATE segment SET sha256 = x'00' WHERE first = 41",
        "UPDATE segment SET last = 'many' WHERE first = 41",
        "UPDATE block SET offset = 3 WHERE first = 48",
        "UPDATE block SET offset = 'x' WHERE first = 48",
        "UPDATE block SET oldest = oldest + 1 WHERE first = 48",
        "UPDATE segment SET newest = newest + 1 WHERE first = 41",
        "UPDATE segment SET size = size + 1 WHERE first = 41",
        "INSERT INTO segment SELECT first + 2, last, file, previous, hash, sha256, size, newest FROM segment LIMIT 1",
        "INSERT INTO block SELECT first + 1, last, file, offset, length, oldest FROM block WHERE first = 48",
        "UPDATE archived SET version = version + 1 WHERE (stream, block) = (SELECT stream, block FROM archived)",
    ],
)
@pytest.mark.slow
async def test_an_index_that_was_changed_is_found(database: Path, sql: str) -> None:
    if "DELETE FROM archived" in sql:
        sql = "DELETE FROM archived WHERE (stream, block) IN (SELECT stream, block FROM archived LIMIT 1)"
    change(database, sql)
    assert fault(database)


@pytest.mark.parametrize("archived_at", [5, 45, 100])
async def test_what_is_archived_while_it_is_verified_is_no_fault(tmp_path: Path, archived_at: int) -> None:
    database = await written(tmp_path / "data", 150)
    recorder = SQLiteRecorder(database, own=False)
    steps = Verifier(recorder).chain(5)
    for reached in steps:
        if reached >= archived_at:
            break
    await archived(database)
    assert max(steps) == recorder.head
    recorder.close()


async def test_what_is_changed_while_it_is_archived_and_verified_is_found(tmp_path: Path) -> None:
    database = await written(tmp_path / "data", 150)
    recorder = SQLiteRecorder(database, own=False)
    steps = Verifier(recorder).chain(5)
    next(steps)
    await archived(database)
    last = segment_files(database)[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(LogCorrupt, match=last.name):
        max(steps)
    recorder.close()


async def test_a_row_that_is_in_both_places_must_be_the_same_in_both(tmp_path: Path) -> None:
    database = await written(tmp_path / "data", 150)
    await archived(database)
    position = rows(database, "SELECT max(position) FROM event")
    change(database, f"UPDATE event SET time = time + 1 WHERE position = {position}")
    assert f"position {position} " in fault(database)
    assert "do not tell the same" in fault(database)


async def test_a_log_put_back_from_a_backup_takes_no_file_of_its_other_history(tmp_path: Path) -> None:
    """They hold what the backup lacks. Nor do they say how much is to be archived."""
    database = await written(tmp_path / "data", 20)
    backup = await asyncio.to_thread(copied, database, tmp_path / "backup")
    await went_on(database, 15)
    await archived(database, sizes=Sizes())
    (other,) = segment_files(database)
    content = other.read_bytes()
    await went_on(backup, 25)
    shutil.copytree(other.parent, backup.parent / "archive")
    assert await archived(backup, before=START - 1) == 0
    assert [path.name for path in segment_files(backup)] == [other.name]
    assert rows(backup, "SELECT count(*) FROM segment") == 0
    await archived(backup, sizes=Sizes(segment_events=int(other.name.split("-")[2][:12])))
    assert fault(backup) == ""
    (kept,) = [path for path in other.parent.parent.parent.glob("backup/archive/*") if path.read_bytes() == content]
    assert kept.name.startswith(f"{other.name}.")


async def went_on(database: Path, jobs: int) -> None:
    """The log gets a few more events."""
    log = SQLiteEventLog(database)
    await log.start()
    for _ in range(jobs):
        await log.save(new_job())
    await log.close()


async def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path) -> None:
    database = await written(tmp_path / "data", 60)
    (database.parent / "archive").write_text("no folder can be made here")
    log = SQLiteEventLog(database)
    await log.start()
    with pytest.raises(LogUnavailable, match="the archive can't be written"):
        await archive_all(log)
    assert log.first == 1
    await log.save(new_job())
    await log.close()


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("DELETE FROM event WHERE position = 20", "position 20 is missing"),
        ("DELETE FROM event WHERE position = 40", "position 40 is missing"),  # where a segment ends
        ("UPDATE event SET traceparent = 'x' WHERE position = 20", "position 20 .* was changed"),
        ("UPDATE event SET id = 'x' WHERE position = 20", "position 20 .* was changed"),
        ("UPDATE event SET hash = 7 WHERE position = 20", "position 20 .* was changed"),
        ("UPDATE event SET data = CAST(data AS TEXT) || x'ff' WHERE position = 20", "can't be read behind position"),
        ("UPDATE event SET topic = 77 WHERE position = 20", "position 20 was changed"),
    ],
)
async def test_a_log_that_does_not_verify_is_not_archived(tmp_path: Path, sql: str, why: str) -> None:
    """No rows leave it: they are what can still be looked at."""
    database = await written(tmp_path / "data", 150)
    change(database, sql)
    count = rows(database)
    log = SQLiteEventLog(database)
    await log.start()
    with pytest.raises(LogUnavailable, match=why):
        await asyncio.wait_for(archive_all(log), 120)
    await log.close()
    assert rows(database) == count
    assert segment_files(database) == []


async def test_audit_checks_the_archive_the_signatures_in_it_and_the_views(database: Path) -> None:
    audit = Audit(database)
    try:
        assert max(audit.chain()) > 150
        list(audit.signatures())
        list(audit.views())
    finally:
        audit.close()


# --- the daily run -------------------------------------------------------------------------------------
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
