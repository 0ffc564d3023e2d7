"""What goes wrong with an archive: kills, full disks, files and indexes that are missing, damaged or changed."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import shutil
import signal
from pathlib import Path

import pytest

from dms.adapters.eventlog.archive_writer import SegmentArchive, Sizes
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.verifier import Verifier
from dms.application.records.export import export_log
from dms.cli.export_file import export_lines
from dms.domain.job import Job
from dms.errors import ArchiveUnreadable, LogCorrupt, LogUnavailable
from dms.offline import Audit
from tests.fixtures import prepared
from tests.fixtures.archiving import IDENTITY, archive_all, archived, copied, written
from tests.fixtures.histories import START, new_job, paid
from tests.integration.eventlog.archive_reading import all_read, change, database, exports, fault, rows, segment_files

__all__ = ["database"]


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
