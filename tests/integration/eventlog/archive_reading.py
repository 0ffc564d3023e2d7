"""What every way to read a log gives, whether its oldest events are archived or not."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.verifier import Verifier
from dms.application.records.export import export_job, export_log
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.errors import ArchiveUnreadable, LogCorrupt
from dms.offline import Replay
from tests.fixtures.archiving import IDENTITY, STEP_US, archived, written
from tests.fixtures.histories import START, new_job, paid

TOPICS = (Job.ServiceRequested.TOPIC, Job.Completed.TOPIC, Deployment.Accepted.TOPIC)


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
    except (LogCorrupt, ArchiveUnreadable) as error:
        return str(error)
    finally:
        recorder.close()
    return ""


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """Some 200 events, all archived."""
    found = await written(tmp_path / "data", 150)
    await archived(found)
    return found


def segment_files(database: Path) -> list[Path]:
    return sorted((database.parent / "archive").iterdir())


async def ended_job(log: SQLiteEventLog) -> str:
    job = new_job()
    job.report_fund_status(paid())
    job.accept_funding("trust")
    job.trigger(Job.DeploymentResponded(success=True, content=""))
    job.trigger(Job.Completed(duration_seconds=5.0))
    await log.save(job)
    return job.key
