"""A start on a full disk, or with a log that another program holds: it waits and says so; nothing is called damaged."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dms import process
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.bootstrap import build
from dms.config import Settings
from dms.database import connect
from dms.errors import ConfigError, LogCorrupt, LogUnavailable
from dms.process import running
from tests.fixtures.disks import own_disk
from tests.fixtures.histories import new_job
from tests.fixtures.own_daemon import own_settings
from tests.fixtures.waiting import wait_for


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with own_disk(tmp_path / "disk", "8m") as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WAITING_SECONDS", (0.05, 0.05))


def fill(disk: Path) -> Path:
    """Answers what is to be removed, so that there is room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


async def closed_log(database: Path) -> None:
    log = SQLiteEventLog(database)
    await log.start()
    await log.save(new_job())
    await log.close()


async def test_a_log_on_a_full_disk_is_not_damaged(disk: Path) -> None:
    await closed_log(disk / "events.db")
    filler = fill(disk)
    for own in (True, False):
        with pytest.raises(LogUnavailable, match=r"events\.db can't be opened as an event log: "):
            SQLiteRecorder(disk / "events.db", own=own)
    filler.unlink()
    SQLiteRecorder(disk / "events.db").close()


async def test_a_log_that_another_program_holds_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dms.database.BUSY_SECONDS", 0.1)
    await closed_log(tmp_path / "events.db")
    other = connect(tmp_path / "events.db")
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LogUnavailable, match="locked"):
        SQLiteRecorder(tmp_path / "events.db")
    other.close()
    SQLiteRecorder(tmp_path / "events.db").close()


def test_what_is_no_log_is_still_called_so(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"noise" * 5000)
    with pytest.raises(LogCorrupt, match="not a database"):
        SQLiteRecorder(tmp_path / "events.db")


def test_a_place_that_takes_nothing_for_ever_is_the_configurations_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dms.adapters.eventlog.sqlite_owned.private", forbidden)
    with pytest.raises(ConfigError, match=rf"to be written by uid {os.geteuid()}: Permission denied"):
        SQLiteRecorder(tmp_path / "events.db")


async def before_the_first_start(_: Settings) -> None:
    """There is nothing yet."""


async def after_a_clean_stop(settings: Settings) -> None:
    daemon = await build(settings)
    await daemon.start()
    await daemon.close()


@pytest.mark.parametrize("before", [before_the_first_start, after_a_clean_stop])
async def test_a_start_on_a_full_disk_goes_on_once_there_is_room(
    disk: Path, before: Callable[[Settings], asyncio.Future[None]], caplog: pytest.LogCaptureFixture
) -> None:
    settings, told, said = own_settings(disk), asyncio.Event(), list[str]()
    await before(settings)
    filler = fill(disk)
    with caplog.at_level(logging.WARNING):
        start = asyncio.create_task(running(settings, told, said.append))
        await wait_for(
            lambda: start.done() or sum(r.message.startswith("the start is tried") for r in caplog.records) > 2
        )
        assert not start.done()
    assert any(text.startswith("waits before it can start: ") for text in said)
    filler.unlink()
    daemon = await start
    assert daemon is not None
    assert daemon.ready() is None
    await daemon.close()


async def test_a_start_that_waits_for_room_can_be_stopped(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings, told, said = own_settings(disk), asyncio.Event(), list[str]()
    await after_a_clean_stop(settings)
    fill(disk)
    start = asyncio.create_task(running(settings, told, said.append))
    # The little that is given back to a full disk may be enough for the log, and not for the views.
    await wait_for(lambda: start.done() or len(said) > 2 or "views waits" in caplog.text)
    told.set()
    assert await start is None
