"""Another program that holds the log's database, as sqlite3 with a transaction left open does: nothing stands still for
it, commands wait a little, and what is wrong is told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dms.adapters.eventlog import group_commit, sqlite_writer
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.domain.job import Job
from dms.errors import LogUnavailable
from tests.fixtures.histories import new_job
from tests.fixtures.waiting import wait_for


@contextmanager
def held(log: SQLiteEventLog) -> Iterator[list[str]]:
    """Answers the transactions that were tried meanwhile."""
    assert isinstance(log.recorder, SQLiteRecorder)
    tried: list[str] = []
    log.recorder.writer.connection.set_trace_callback(lambda sql: tried.append(sql) if "BEGIN" in sql else None)
    other = sqlite3.connect(log.recorder.database, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield tried
    finally:
        other.close()


async def test_the_loop_goes_on_and_what_waits_is_written_once_it_can_be(log: SQLiteEventLog) -> None:
    job = new_job()
    with held(log) as tried:
        saving = asyncio.create_task(log.save(job))
        await wait_for(lambda: len(tried) >= 3)
        assert not saving.done()
    await saving
    assert log.load(Job, job.key) is not None
    assert not log.trouble


async def test_who_holds_it_for_long_is_told_until_it_lets_go(
    log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (group_commit, sqlite_writer):
        monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    with held(log):
        with pytest.raises(LogUnavailable, match="another program holds it"):
            await log.save(new_job())
        await log.try_to_write()
        assert "another program holds it" in str(log.trouble)
    await log.try_to_write()
    assert not log.trouble
    await log.save(new_job())


async def test_a_note_that_waits_in_a_thread_holds_up_neither_the_loop_nor_commands(log: SQLiteEventLog) -> None:
    job = new_job()
    with held(log) as tried:
        noting = asyncio.create_task(asyncio.to_thread(log.recorder.set_note, "name", b"value"))
        saving = asyncio.create_task(log.save(job))
        await wait_for(lambda: len(tried) >= 6)
        assert not noting.done()
        assert not saving.done()
    await asyncio.gather(noting, saving)
    assert log.recorder.note("name") == b"value"
