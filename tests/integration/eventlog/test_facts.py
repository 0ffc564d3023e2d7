"""Reading a log in bulk gives what reading whole envelopes gives, but for the bodies that nobody looks into."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dms.adapters.eventlog.facts import FactReader
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.domain.deployment import Deployment
from dms.domain.event import UNREAD, Event, Fact, Recorded, Unknown
from dms.domain.job import Job
from dms.errors import LogCorrupt
from tests.fixtures.worlds import history


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    for aggregate in history(random.Random(3), 300):
        await log.save(aggregate)
    await log.close()
    return tmp_path / "events.db"


def only_deployments(event_type: type[Event]) -> bool:
    return event_type in Deployment.event_types()


def as_fact(one: Recorded) -> Fact:
    event = one.event if only_deployments(one.event_type) else UNREAD
    return Fact(one.position, one.kind, one.key, one.topic, one.time, one.event_type, event)


async def test_pages_of_facts_are_the_log(database: Path) -> None:
    recorder = SQLiteRecorder(database, own=False)
    head, reader = recorder.head, FactReader(recorder, only_deployments)
    facts: list[Fact] = []
    while page := reader.read(facts[-1].position if facts else 0, 17, head - 1):
        facts += page
    assert facts == [as_fact(one) for one in LogStore(recorder).read(0, head - 1)]
    assert {type(fact.event) for fact in facts} > {type(UNREAD), Deployment.Accepted}
    recorder.close()


async def test_an_event_of_a_newer_program_is_unknown_and_a_topic_that_is_not_there_is_named(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE topic SET version = 9 WHERE name = ?", (Job.Failed.TOPIC,))
        connection.execute("UPDATE event SET topic = 77 WHERE position = (SELECT max(position) FROM event)")
    recorder = SQLiteRecorder(database, own=False)
    reader = FactReader(recorder, lambda _: True)
    facts = reader.read(0, 100_000, recorder.head - 1)
    failed = [fact for fact in facts if fact.topic == Job.Failed.TOPIC]
    assert failed
    assert all(isinstance(fact.event, Unknown) and fact.event.version == 9 for fact in failed)
    with pytest.raises(LogCorrupt, match=f"position {recorder.head} was changed: there is no topic 77"):
        reader.read(recorder.head - 1, 1, recorder.head)
    recorder.close()
