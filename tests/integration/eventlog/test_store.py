"""eventsourcing's own EventStore and Repository on our recorder: another way in, and the same seals and chain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from eventsourcing.application import Repository
from eventsourcing.persistence import DataError, EventStore, IntegrityError, StoredEvent
from msgspec import structs

from dms.adapters.eventlog.mapper import EventMapper, LogStore
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.verifier import Verifier
from dms.domain.event import Recorded, encode, new_id_bytes
from dms.domain.job import Job
from dms.domain.sealing import ERASED
from tests.fixtures.histories import new_job, paid


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[SQLiteRecorder]:
    with closing(SQLiteRecorder(tmp_path / "events.db")) as made:
        yield made


def decided(job: Job) -> list[Recorded]:
    """Its pending events, as the library's EventStore takes them."""
    now = time.time_ns() // 1000
    return [
        Recorded(0, job.id, v, e.TOPIC, e.VERSION, now, new_id_bytes(), b"", b"", "00-ab-cd-01", b"", b"", e)
        for v, e in job.collect_pending()
    ]


def test_what_the_librarys_event_store_puts_is_sealed_and_chained(recorder: SQLiteRecorder, tmp_path: Path) -> None:
    store: EventStore[str] = EventStore(EventMapper(recorder.keys), recorder)
    job = new_job()
    job.report_fund_status(paid())
    events = decided(job)
    personal = events[0].event
    assert isinstance(personal, Job.ServiceRequested)
    image = personal.request.params.image_id.encode()
    assert image in encode(personal)
    assert [put.notification.id for put in store.put(events)] == [1, 2]
    assert all(image not in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert list(Verifier(recorder).chain()) == [2]
    found = list(store.get(job.id))
    assert [one.event for one in found if isinstance(one, Recorded)] == [one.event for one in events]
    stored = recorder.read(0, 1)[0]
    assert (stored.schema_version, stored.id, stored.time) == (personal.VERSION, events[0].id, events[0].time)
    assert stored.traceparent == "00-ab-cd-01"
    assert recorder.destroy_keys([job.key]) == 1
    erased = next(iter(store.get(job.id)))
    assert isinstance(erased, Recorded)
    assert isinstance(erased.event, Job.ServiceRequested)
    assert erased.event.request.params.image_id == ERASED


def test_personal_data_in_the_clear_is_refused_and_nothing_of_its_batch_is_written(recorder: SQLiteRecorder) -> None:
    job = new_job()
    (event,) = decided(job)
    plain = [
        StoredEvent("other-1", 1, "other.happened", b"{}"),
        StoredEvent(job.id, 1, event.topic, encode(event.event)),
    ]
    with pytest.raises(DataError, match="tells of a person in the clear"):
        recorder.insert_events(plain)
    with pytest.raises(DataError, match="is not a JSON object"):
        recorder.insert_events([StoredEvent(job.id, 1, event.topic, b"\xff")])
    assert (recorder.max_notification_id(), recorder.head) == (None, 0)
    assert recorder.insert_events(plain[:1]) == [1]


def test_the_librarys_repository_rebuilds_what_its_event_store_put(recorder: SQLiteRecorder) -> None:
    store = LogStore(recorder)
    job = new_job()
    store.put(decided(job))
    job.report_fund_status(paid())
    store.put(decided(job))
    found: Job = Repository(store).get(job.id, projector_func=Job.project)
    assert (found.version, found.state) == (job.version, job.state)
    with pytest.raises(IntegrityError):
        store.put([*store.get(job.id)])
    assert recorder.head == 2


def test_what_a_newer_program_wrote_is_not_written_again(recorder: SQLiteRecorder) -> None:
    recorder.insert_events([StoredEvent("job-1", 1, "job.teleported", b'{"to":"Mars"}')])
    store = LogStore(recorder)
    with pytest.raises(DataError, match=r"job\.teleported of job-1 can't be written"):
        store.put(list(store.get("job-1")))


def test_an_old_event_that_is_put_again_is_of_the_version_that_it_was_read_as(recorder: SQLiteRecorder) -> None:
    job = new_job()
    (event,) = decided(job)
    assert event.schema_version > 1
    store = LogStore(recorder)
    old = structs.replace(event, schema_version=1)
    store.put([old])
    assert [(one.schema_version, one.event) for one in store.read(0, 9)] == [(event.schema_version, event.event)]
