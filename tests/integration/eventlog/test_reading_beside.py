"""What looks through the whole log holds nothing up: the loop reads beside it, and others between its steps."""

from __future__ import annotations

import asyncio

import pytest

from dms.adapters.eventlog import sqlite_reader
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.domain.payment import Payment
from tests.fixtures.histories import new_job
from tests.fixtures.standing import standing_still
from tests.fixtures.waiting import wait_for

JOBS = 20


async def written(log: SQLiteEventLog) -> list[Job]:
    """The rarest of their events is the newest."""
    jobs = [new_job() for _ in range(JOBS)]
    await asyncio.gather(*(log.save(job) for job in jobs))
    payment = Payment(new_id())
    payment.use(jobs[0].key)
    await log.save(payment)
    log._live.forget()  # so that it is read from the disk
    return jobs


async def test_the_loop_reads_while_the_log_is_looked_through(log: SQLiteEventLog) -> None:
    first, *_ = await written(log)
    assert isinstance(log.recorder, SQLiteRecorder)
    log._aggregates.evict([first.id])
    with standing_still(log.recorder.reader._scans.connection) as stands:
        scan = asyncio.create_task(log.read(0, 9, topics=(Payment.Used.TOPIC,)))
        await wait_for(stands.is_set)
        found = log.load(Job, first.key)
        assert found is not None
        assert found.version == 1
        assert log.time_at(1)
        assert log.previous_hash(2)
        await log.save(new_job())
        assert not scan.done()
    assert [event.position for event in await scan] == [JOBS + 1]


@pytest.mark.parametrize("limit", [1, 7, JOBS, 2 * JOBS])
@pytest.mark.parametrize("topics", [(), (Payment.Used.TOPIC,), (Job.ServiceRequested.TOPIC,)])
async def test_steps_leave_nothing_out(
    log: SQLiteEventLog, limit: int, topics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(log)
    expected = [e.position for e in log.store.read(0, 2 * JOBS) if not topics or e.topic in topics][:limit]
    monkeypatch.setattr(sqlite_reader, "STEP", 3)
    assert [e.position for e in await log.read(0, limit, topics=topics)] == expected
    until = JOBS // 2
    assert [e.position for e in log.store.read(0, limit, topics=topics, until=until)] == [
        position for position in expected if position <= until
    ]


async def test_a_scan_gives_its_turn_back_after_each_step(log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    await written(log)
    assert isinstance(log.recorder, SQLiteRecorder)
    monkeypatch.setattr(sqlite_reader, "STEP", 3)
    asked: list[str] = []
    log.recorder.reader._scans.connection.set_trace_callback(asked.append)
    await log.read(0, 9, topics=(Payment.Used.TOPIC,))
    assert len([sql for sql in asked if "FROM event" in sql]) == JOBS // 3 + 1
