"""A log that is damaged, taken away or can't be written, now or before: noticed, told, and not written on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from dms.adapters.eventlog import watch
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.verifier import Verifier
from dms.adapters.eventlog.watch import LogWatch
from dms.application.device.device import DeviceService
from dms.application.network.availability import AvailabilityNews
from dms.database import connect
from dms.domain.device import Device, Offer
from dms.domain.job import Job
from dms.errors import LogCorrupt, LogUnavailable
from tests.fixtures.disks import own_disk
from tests.fixtures.histories import new_job, paid
from tests.fixtures.waiting import wait_for
from tests.fixtures.worlds import WHOLE

JOBS = 40


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)


@asynccontextmanager
async def running(database: Path, *, look: bool = True) -> AsyncIterator[SQLiteEventLog]:
    """As the daemon uses it."""
    log = SQLiteEventLog(database)
    await log.start()
    guard = LogWatch(log)
    guard.check_newest()
    if look:
        await guard.start()
    try:
        yield log
    finally:
        await guard.close()
        await log.close()


def funded() -> Job:
    job = new_job()
    job.report_fund_status(paid())
    return job


async def a_history(database: Path) -> None:
    log = SQLiteEventLog(database)
    await log.start()
    for _ in range(JOBS):
        await log.save(funded())
    await log.save(Device("me"))
    await log.close()


def sql(*statements: str) -> Callable[[Path], None]:
    def change(database: Path) -> None:
        with closing(connect(database)) as connection:
            for statement in statements:
                connection.execute(statement)

    return change


def payload_bit(database: Path) -> None:
    with closing(connect(database)) as connection:
        (data,) = connection.execute("SELECT data FROM event WHERE position = 30").fetchone()
        damaged = bytearray(data)
        damaged[len(damaged) // 2] ^= 1
        connection.execute("UPDATE event SET data = ? WHERE position = 30", (bytes(damaged),))


def noise(where: str) -> Callable[[Path], None]:
    """512 bytes in the middle of a page: of the events, of their index, of the names of streams."""

    def change(database: Path) -> None:
        with closing(connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            pages = connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno", (where,)
            ).fetchall()
        with database.open("r+b") as file:
            file.seek((pages[len(pages) // 2][0] - 1) * size + size - 1024)
            file.write(os.urandom(512))

    return change


DAMAGE = {
    "a bit of a payload": payload_bit,
    "a time": sql("UPDATE event SET time = time + 1 WHERE position = 30"),
    "a hash": sql("UPDATE event SET hash = zeroblob(32) WHERE position = 30"),
    "another type": sql("UPDATE event SET data = 5 WHERE position = 30"),
    "a row in the middle deleted": sql("DELETE FROM event WHERE position = 30"),
    "the last event": sql("UPDATE event SET data = x'7b7d' WHERE position = (SELECT max(position) FROM event)"),
    "the first event": sql("UPDATE event SET data = x'7b7d' WHERE position = 1"),
    "a stream's name": sql("UPDATE stream SET name = name || 'x' WHERE id = 20"),
    "a topic's name": sql("UPDATE topic SET name = 'job.failed' WHERE id = 1"),
    "a stream's name that is no text": sql("UPDATE stream SET name = CAST(x'64ff80' AS TEXT) WHERE id = 20"),
    "a topic's name that is no text": sql("UPDATE topic SET name = CAST(x'64ff80' AS TEXT) WHERE id = 1"),
    "a payload that is no text": sql("UPDATE event SET data = CAST(x'64ff80' AS TEXT) WHERE position = 30"),
    "a key's name that is no text": sql("UPDATE seal_key SET id = CAST(x'64ff80' AS TEXT) WHERE number = 20"),
    "a key": sql("UPDATE seal_key SET secret = zeroblob(31) || x'01' WHERE number = 20"),
    "a key's name": sql("UPDATE seal_key SET id = zeroblob(16) WHERE number = 20"),
    "a key deleted": sql("DELETE FROM seal_key WHERE number = 20"),
    "noise in the events": noise("event"),
    "noise in their index": noise("event_of_stream"),
    "noise in the streams": noise("stream"),
    "noise in the keys": noise("seal_key"),
}


async def refuses(log: SQLiteEventLog) -> None:
    before = log.recorder.head
    with pytest.raises(LogUnavailable, match="the event log is damaged, nothing is recorded: "):
        await log.save(new_job())
    with pytest.raises(LogUnavailable, match="damaged"):
        await log.destroy_seal_keys(["x"])
    assert log.recorder.head == before


@pytest.mark.parametrize("newest", [5, 50_000], ids=["in the background", "at the start"])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.slow
async def test_damage_is_noticed_and_nothing_is_written_on(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: str, newest: int
) -> None:
    monkeypatch.setattr(watch, "START_EVENTS", newest)
    await a_history(database)
    DAMAGE[damage](database)
    try:
        async with running(database) as log:
            await wait_for(lambda: bool(log.health.damage), 120)
            await refuses(log)
            assert "put a backup" in log.trouble
    except LogCorrupt:  # so much that it can't even be opened
        return
    assert any(getattr(record, "action", "") == "log_damaged" for record in caplog.records)
    if damage in ("a bit of a payload", "a time", "a hash", "a row in the middle deleted"):
        assert "position 30 " in log.health.damage


async def test_a_whole_log_is_verified_once_and_the_next_start_looks_at_the_rest(database: Path) -> None:
    await a_history(database)
    async with running(database, look=False) as log:
        guard = LogWatch(log)
        await guard.start()
        await asyncio.wait_for(guard.verified.wait(), 120)
        await guard.close()
        assert not log.trouble
        head = log.head
        await log.save(new_job())
        guard.check_newest()
        assert not log.trouble
    sql(f"DELETE FROM event WHERE position >= {head}")(database)  # what was verified is cut off: links still fit
    async with running(database, look=False) as log:
        assert f"was verified up to {head}" in log.health.damage


async def test_the_note_of_what_was_verified_is_only_a_hint(database: Path) -> None:
    await a_history(database)
    recorder = SQLiteRecorder(database)
    recorder.set_note("verified", b"60 " + recorder.previous_hash(61))
    recorder.close()
    DAMAGE["a time"](database)
    async with running(database) as log:
        await wait_for(lambda: "position 30 " in log.health.damage, 120)


async def test_stopping_does_not_wait_for_the_check(database: Path) -> None:
    await a_history(database)
    for _ in range(5):
        async with running(database) as log:
            pass
        assert not log.health.damage


# --- taken away while in use ------------------------------------------------------------------------------
def swapped(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def whole_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


TAKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "deleted": ("events.db", Path.unlink),
    "renamed": ("events.db", lambda path: path.rename(path.with_name("old.db"))),
    "replaced": ("events.db", swapped),
    "cut": ("events.db", lambda path: os.truncate(path, 4096)),
    "emptied": ("events.db", lambda path: os.truncate(path, 0)),
    "its journal deleted": ("events.db-wal", Path.unlink),
    "its journal replaced": ("events.db-wal", swapped),
    "its shared memory deleted": ("events.db-shm", Path.unlink),
    "its folder renamed": ("events.db", whole_folder),
}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("looks", [True, False], ids=["by looking", "by the next command"])
async def test_a_log_that_is_taken_away_takes_no_more_commands(tmp_path: Path, taken: str, looks: bool) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    await a_history(folder / "events.db")
    async with running(folder / "events.db", look=looks) as log:
        told: list[str] = []
        log.on_trouble(lambda: told.append(log.trouble))
        kept = new_job()
        await log.save(kept)
        name, take = TAKEN[taken]
        take(folder / name)
        if looks:
            await wait_for(lambda: bool(told), 120)
        await refuses(log)
        assert str(folder / name) in log.trouble
        if taken in ("deleted", "renamed", "replaced"):
            assert len(await log.read(0, 1000)) == log.head  # what it has is still served


async def test_a_commit_into_a_file_that_is_gone_is_not_acknowledged(database: Path) -> None:
    async with running(database, look=False) as log:
        await log.save(new_job())
        committed = log.recorder.commit

        def gone_meanwhile() -> float:
            database.unlink()
            return committed()

        log.recorder.commit = gone_meanwhile  # type: ignore[method-assign]
        head = log.head
        with pytest.raises(LogUnavailable, match="was removed"):
            await log.save(new_job())
        assert log.head == head


# --- a disk that is full ----------------------------------------------------------------------------------
class NoHardware:
    def capacity(self) -> object:
        return WHOLE

    async def read_gpus(self) -> tuple[()]:
        return ()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with own_disk(tmp_path / "disk", "2m") as folder:
        yield folder


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


async def test_a_full_disk_is_told_until_something_can_be_written_again(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(small_disk / "events.db") as log:
        device = DeviceService(log, NoHardware(), "me")  # type: ignore[arg-type]
        offered = Device("me")
        offered.onboard(Offer(cpu_mhz=2000, memory_mb=6400, channel="nunet-test", payment_address="addr"), WHOLE)
        await log.save(offered)
        stirred = asyncio.Event()
        AvailabilityNews(log, stirred.set)
        assert (log.trouble, device.offering().online) == ("", True)
        ballast = fill(small_disk)
        with pytest.raises(LogUnavailable, match="full"):  # noqa: PT012
            for _ in range(2000):  # what the journal has room for already
                await log.save(funded())
        assert "can't be written" in log.trouble
        await asyncio.wait_for(stirred.wait(), 120)  # the network is told
        assert not device.offering().online
        assert "nothing can be recorded" in device.hindrance
        stirred.clear()
        ballast.unlink()
        await wait_for(lambda: not log.trouble, 120)  # by itself
        await asyncio.wait_for(stirred.wait(), 120)
        assert (device.offering().online, device.hindrance) == (True, "")
        await log.save(new_job())
    told = [getattr(record, "action", "") for record in caplog.records]
    assert [action for action in told if action.startswith("log_w")] == ["log_write_failed", "log_written_again"]


async def test_a_command_that_succeeds_ends_the_trouble_at_once(database: Path) -> None:
    async with running(database, look=False) as log:
        log.recorder.writer.connection.execute("PRAGMA query_only = ON")
        with pytest.raises(LogUnavailable):
            await log.save(new_job())
        await log.try_to_write()
        assert log.trouble
        log.recorder.writer.connection.execute("PRAGMA query_only = OFF")
        job = new_job()
        await log.save(job)
        assert not log.trouble
        assert log.load(Job, job.key) is not None


async def test_an_outdated_decision_is_no_trouble(database: Path) -> None:
    async with running(database, look=False) as log:
        job = new_job()
        await log.save(job)
        log._aggregates.evict([job.id])
        stale = new_job()
        stale.id = job.id
        with pytest.raises(Exception, match="another writer"):
            await log.save(stale)
        assert not log.trouble


def test_the_structure_is_looked_at_without_the_daemon_too(database: Path) -> None:
    """As `nunet audit verify` does, for what the chain does not see."""
    asyncio.run(a_history(database))
    DAMAGE["a key"](database)
    recorder = SQLiteRecorder(database, own=False)
    try:
        with pytest.raises(LogCorrupt, match="key 20 of personal data"):
            Verifier(recorder).keys()
    finally:
        recorder.close()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM seal_key").fetchone()[0] >= JOBS
