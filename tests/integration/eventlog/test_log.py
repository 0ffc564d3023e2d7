"""The event log as commands and subscribers meet it: on a real file, with quick commits and slow ones."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from queue import SimpleQueue

import pytest
from eventsourcing.persistence import OperationalError

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.domain.event import Recorded, new_id
from dms.domain.job import Job
from dms.domain.payment import Payment
from dms.domain.reward import Fault
from dms.errors import Conflict, InvalidInput, LogCorrupt, LogUnavailable
from tests.fixtures.disks import broken_disk
from tests.fixtures.histories import new_job, paid
from tests.fixtures.waiting import wait_for


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture(params=["quick disk", "slow disk"])
async def log(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[SQLiteEventLog]:
    """With commits on the loop, or always in a thread."""
    made = SQLiteEventLog(database, kept_events=64)
    if request.param == "slow disk":
        commits_in_a_thread(made)
    await made.start()
    yield made
    await made.close()


def commits_in_a_thread(log: SQLiteEventLog) -> None:
    log._commits._commit_seconds = 1e9


async def take(log: SQLiteEventLog, count: int, after: int = 0, stream: str = "") -> list[Recorded]:
    """The first `count` events of a subscription."""
    found: list[Recorded] = []
    async with asyncio.timeout(120), aclosing(log.subscribe(after, stream=stream)) as batches:
        async for events in batches:
            found += events
            if len(found) >= count:
                return found
    return found


async def write(log: SQLiteEventLog, jobs: int) -> list[str]:
    made = [new_job() for _ in range(jobs)]
    await asyncio.gather(*(log.save(job) for job in made))
    return [job.key for job in made]


# --- saving ----------------------------------------------------------------------------------------
async def test_concurrent_saves_share_commits_and_positions_have_no_gaps(log: SQLiteEventLog) -> None:
    commits: list[str] = []
    log.recorder.writer.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    await write(log, 500)
    assert len(commits) < 50
    events = await log.read(0, 1000)
    assert [event.position for event in events] == list(range(1, 501))
    assert list(log.verify())[-1] == 500


async def test_a_save_answers_a_head_that_holds_it(log: SQLiteEventLog) -> None:
    job = new_job()
    assert await log.save(job) == 1
    job.report_fund_status(paid())
    assert await log.save(job) == 2
    assert [event.topic for event in await log.read(0, 9)] == ["job.service_requested", "job.fund_status_reported"]


async def test_several_aggregates_are_saved_together_or_not_at_all(log: SQLiteEventLog) -> None:
    job, payment = new_job(), Payment("ab")
    payment.use(job.key)
    with broken_disk(log), pytest.raises(LogUnavailable):
        await log.save(job, payment)
    assert (log.head, log.load(Job, job.key), log.load(Payment, "ab")) == (0, None, None)
    again, payment = new_job(job.key), Payment("ab")
    payment.use(job.key)
    assert await log.save(again, payment) == 2


async def test_a_failed_save_appends_nothing_and_later_ones_work(log: SQLiteEventLog) -> None:
    job = new_job()
    await log.save(job)
    told: list[int] = []
    log.index(Job, lambda _, job: told.append(0 if job is None else job.version))
    job.report_fund_status(paid())
    with broken_disk(log), pytest.raises(LogUnavailable, match="readonly"):
        await log.save(job)
    assert told == [2, 1]
    anew = log.load(Job, job.key)
    assert anew is not None
    assert anew is not job
    assert (anew.version, anew.state) == (1, "awaiting")
    anew.report_fund_status(paid())
    assert await log.save(anew) == 2
    assert list(log.verify()) == [2]


async def test_an_index_that_fails_leaves_no_command_without_an_answer(log: SQLiteEventLog) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a bug in an index")

    log.index(Job, fails)
    with broken_disk(log), pytest.raises(LogUnavailable):
        async with asyncio.timeout(120):
            await log.save(new_job())
    assert await asyncio.wait_for(log.save(new_job()), 120) == 1


async def test_an_index_has_what_is_decided_and_what_could_not_be_written_is_taken_back(log: SQLiteEventLog) -> None:
    states: dict[str, str] = {}

    def restate(key: str, job: Job | None) -> None:
        states[key] = "" if job is None else job.state

    log.index(Job, restate)
    first, second = new_job(), new_job()
    saving = asyncio.create_task(log.save(first))
    await asyncio.sleep(0)
    assert states == {first.key: "awaiting"}
    assert await saving == 1
    first.report_fund_status(paid())
    payment = Payment("ab")
    payment.use(first.key)
    with broken_disk(log):
        saving = asyncio.create_task(log.save(first, second, payment))
        await asyncio.sleep(0)
        assert states == {first.key: "funding", second.key: "awaiting"}
        with pytest.raises(LogUnavailable):
            await saving
    assert states == {first.key: "awaiting", second.key: ""}


async def test_what_queued_behind_a_failed_save_fails_with_it(log: SQLiteEventLog) -> None:
    """It was decided on events that never were."""
    job = new_job()
    with broken_disk(log):
        first = asyncio.create_task(log.save(job))
        await asyncio.sleep(0)
        job.report_fund_status(paid())
        second = asyncio.create_task(log.save(job))
        results = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 120)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]
    assert log.load(Job, job.key) is None


async def test_an_overloaded_log_refuses_and_forgets(log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dms.adapters.eventlog.group_commit.QUEUED_EVENTS", 10)
    told: list[str] = []
    log.index(Job, lambda _, job: told.append("rolled back" if job is None else job.state))
    jobs = [new_job() for _ in range(20)]
    results = await asyncio.gather(*(log.save(job) for job in jobs), return_exceptions=True)
    refused = [job for job, result in zip(jobs, results, strict=True) if isinstance(result, LogUnavailable)]
    assert len(refused) == 10
    assert sorted(told) == ["awaiting"] * 10 + ["rolled back"] * 10
    assert [log.load(Job, job.key) for job in refused] == [None] * 10
    assert log.head == 10


async def test_an_aggregate_on_its_way_to_the_disk_is_never_forgotten(
    log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.adapters.eventlog.group_commit.QUEUED_EVENTS", 1)
    job = new_job()
    first = asyncio.create_task(log.save(job))
    await asyncio.sleep(0)
    job.report_fund_status(paid())
    assert await asyncio.gather(first, log.save(job))
    assert log.load(Job, job.key) is job
    assert log.head == 2


async def test_two_writers_of_one_version_conflict(log: SQLiteEventLog) -> None:
    job_id = new_id()
    results = await asyncio.gather(log.save(new_job(job_id)), log.save(new_job(job_id)), return_exceptions=True)
    assert any(isinstance(result, Conflict) for result in results)
    await log.save(new_job())
    assert list(log.verify())


async def test_of_commands_that_share_a_commit_a_conflict_is_told_to_its_culprit_alone(log: SQLiteEventLog) -> None:
    """Those before it are written. Those behind it may have been decided on what was refused: they are to be tried
    again, which is no conflict."""
    job = new_job()
    await log.save(job)
    log._aggregates.evict([job.id])
    before, culprit, behind = new_job(), new_job(job.key), new_job()
    jobs = [before, culprit, behind]
    told = await asyncio.gather(*(log.save(each) for each in jobs), return_exceptions=True)
    assert told[0] == 2
    assert [type(answer) for answer in told[1:]] == [Conflict, LogUnavailable]
    assert not log.trouble
    assert log.load(Job, before.key) is before
    assert log.load(Job, behind.key) is None
    assert await asyncio.gather(*(log.save(new_job()) for _ in range(9))) == [11] * 9
    assert list(log.verify()) == [11]


async def test_one_that_is_made_twice_at_once_is_a_conflict_of_the_second_alone(log: SQLiteEventLog) -> None:
    job_id = new_id()
    jobs = [new_job(job_id), new_job(job_id), new_job()]
    told = await asyncio.gather(*(log.save(each) for each in jobs), return_exceptions=True)
    assert [type(answer) for answer in told] == [int, Conflict, int]
    assert log.load(Job, job_id) is jobs[0]


async def test_a_caller_that_goes_away_loses_nothing_of_what_it_decided(log: SQLiteEventLog) -> None:
    job = new_job()
    caller = asyncio.create_task(log.save(job))
    await asyncio.sleep(0)
    repeated = asyncio.create_task(log.save(job))  # has nothing new: waits for the first one
    await asyncio.sleep(0)
    caller.cancel()
    assert await asyncio.wait_for(repeated, 120) == 1
    assert caller.cancelled()
    assert [event.originator_id for event in await log.read(0, 9)] == [job.id]


async def test_an_answer_that_repeats_waits_for_the_disk(log: SQLiteEventLog) -> None:
    job = new_job()
    with broken_disk(log):
        results = await asyncio.gather(log.save(job), log.save(job), return_exceptions=True)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]


async def test_closing_writes_what_is_queued_and_later_saves_are_refused(database: Path) -> None:
    log = SQLiteEventLog(database)
    commits_in_a_thread(log)
    await log.start()
    saves = [asyncio.create_task(log.save(new_job())) for _ in range(300)]
    await asyncio.sleep(0)
    saves[0].cancel()
    await asyncio.wait_for(log.close(), 120)
    await asyncio.gather(*saves, return_exceptions=True)
    with pytest.raises(LogUnavailable):
        await asyncio.wait_for(log.save(new_job()), 120)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*), max(position) FROM event").fetchone() == (300, 300)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_aggregates_outlive_the_cache(log: SQLiteEventLog) -> None:
    log._aggregates._repository.cache.maxsize = 4  # type: ignore[union-attr]
    keys = await write(log, 50)
    jobs = [log.load(Job, key) for key in keys]
    assert [job.version for job in jobs if job] == [1] * 50
    for job in jobs:
        assert job is not None
    await asyncio.gather(*(_fund(log, key) for key in keys))
    assert log.head == 100


async def test_one_that_is_held_is_the_one_that_others_load_and_decide_on(log: SQLiteEventLog) -> None:
    """However long it is held, and however many others are loaded meanwhile."""
    log._aggregates._repository.cache.maxsize = 4  # type: ignore[union-attr]
    made = new_job()
    await log.save(made)
    key = made.key
    del made
    await write(log, 50)
    held = log.load(Job, key)
    await write(log, 50)
    assert held is not None
    await _fund(log, key)
    assert held.version == 2
    held.fail("no provider", Fault.NETWORK)
    await log.save(held)
    again = log.load(Job, key)
    assert again is not None
    assert (again.version, again.state) == (3, "failed")


async def test_what_was_taken_back_while_it_was_held_is_tried_again_and_nobody_else_suffers(
    log: SQLiteEventLog,
) -> None:
    job = new_job()
    await log.save(job)
    job.report_fund_status(paid())
    with broken_disk(log), pytest.raises(LogUnavailable):
        await log.save(job)
    payment = Payment("ab")
    payment.use(job.key)
    job.fail("decided on what never was", Fault.NETWORK)
    saves = log.save(job, payment), log.save(new_job())
    stale, other = await asyncio.gather(*saves, return_exceptions=True)
    assert isinstance(stale, LogUnavailable)
    assert "try again" in str(stale)
    assert other == 2
    assert log.load(Payment, "ab") is None
    await _fund(log, job.key)
    assert list(log.verify()) == [3]


async def _fund(log: SQLiteEventLog, key: str) -> None:
    job = log.load(Job, key)
    assert job is not None
    job.report_fund_status(paid(key))
    await log.save(job)


# --- subscribing -----------------------------------------------------------------------------------
async def test_subscribers_from_anywhere_see_each_event_once_while_others_write(log: SQLiteEventLog) -> None:
    """Also those whose position is older than what is kept in memory (64 to 128 events here)."""
    await write(log, 200)
    readers = {after: asyncio.create_task(take(log, 600 - after, after)) for after in (0, 1, 71, 150, 200)}
    for _ in range(40):
        await write(log, 10)
    for after, reader in readers.items():
        assert [event.position for event in await reader] == list(range(after + 1, 601))


async def test_subscribing_by_stream_and_by_topic_leaves_out_the_rest_only(log: SQLiteEventLog) -> None:
    keys = await write(log, 150)
    stream = asyncio.create_task(take(log, 2, stream=f"job-{keys[3]}"))
    funded: list[str] = []

    async def follow() -> None:
        async with aclosing(log.subscribe(0, topics=["job.fund_status_reported"])) as batches:
            async for events in batches:
                funded.extend(event.originator_id.removeprefix("job-") for event in events)

    follower = asyncio.create_task(follow())
    for key in keys:
        await _fund(log, key)
    await wait_for(lambda: len(funded) == 150)
    assert funded == keys
    assert [event.topic for event in await stream] == ["job.service_requested", "job.fund_status_reported"]
    follower.cancel()
    await asyncio.wait([follower])


async def test_a_subscriber_that_pauses_loses_nothing(log: SQLiteEventLog) -> None:
    async with asyncio.timeout(120), aclosing(log.subscribe(0)) as batches:
        await write(log, 10)
        seen = [event.position for event in await anext(batches)]
        await write(log, 400)
        while len(seen) < 410:
            seen += [event.position for event in await anext(batches)]
    assert seen == list(range(1, 411))
    assert len(log._live._tail._events) <= 2 * 64


class Gate(SimpleQueue[None]):
    """A listener that holds the committing thread up right behind its commit."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def put(self, item: None, block: bool = True, timeout: float | None = None) -> None:
        self.reached.set()
        self.opened.wait(120)


async def test_a_commit_just_made_in_a_thread_does_not_make_subscribers_spin(database: Path) -> None:
    """Once the thread has committed, and before the loop knows, the file is ahead of the tail: a subscriber
    that went by the file's head found nothing behind its position, looked again, and held the loop for ever."""
    log = SQLiteEventLog(database)
    commits_in_a_thread(log)
    await log.start()
    gate = Gate()
    log.recorder.listeners.append(gate)
    saving = asyncio.create_task(log.save(new_job()))
    await asyncio.to_thread(gate.reached.wait, 20)
    assert log.recorder.head == 1
    assert log.head == 0
    assert await log.read(0, 10) == []
    async with aclosing(log.subscribe(0)) as batches:
        reading = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        gate.opened.set()
        assert [event.position for event in await asyncio.wait_for(reading, 120)] == [1]
    assert await saving == 1
    await log.close()


async def test_cancelling_a_wait_for_the_next_event_leaves_nothing_behind(log: SQLiteEventLog) -> None:
    before = asyncio.all_tasks()
    batches = log.subscribe(0)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await batches.aclose()
    assert asyncio.all_tasks() == before
    assert [event.position for event in await _after_one_more(log)] == [1]


async def _after_one_more(log: SQLiteEventLog) -> list[Recorded]:
    await write(log, 1)
    return await take(log, 1)


@pytest.mark.parametrize("position", [-1, 2, 2**62])
async def test_a_position_that_is_not_in_the_log_is_refused(log: SQLiteEventLog, position: int) -> None:
    await write(log, 1)
    with pytest.raises(InvalidInput, match="newest is 1"):
        await anext(log.subscribe(position))


async def test_reading_by_topic_stream_and_limit(log: SQLiteEventLog) -> None:
    keys = await write(log, 100)
    await _fund(log, keys[0])
    for after in (0, 99, 101):
        events = await log.read(after, 1000)
        assert [event.position for event in events] == list(range(after + 1, 102))
    assert [event.position for event in await log.read(0, 5, topics=["job.fund_status_reported"])] == [101]
    assert [event.position for event in await log.read(0, 5, stream=f"job-{keys[0]}")] == [1, 101]
    assert await log.read(0, 5, stream="job-none") == []
    assert [event.position for event in await log.read(90, 3)] == [91, 92, 93]


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_log_that_can_not_be_opened_leaves_no_connection_open(tmp_path: Path, content: bytes) -> None:
    database = tmp_path / "events.db"
    database.write_bytes(content)
    with pytest.raises(LogCorrupt):
        SQLiteRecorder(database)
    mine = {os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}
    assert not [name for name in mine if name.startswith(str(database))]


async def test_a_file_that_can_not_be_read_just_now_is_trouble_that_passes(
    log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_: int) -> int:
        raise OperationalError("database is locked")

    for read in ("previous_hash", "time_at", "position_at"):
        monkeypatch.setattr(log.recorder, read, locked)
    with pytest.raises(LogUnavailable, match="just now"):
        log.previous_hash(1)
    with pytest.raises(LogUnavailable, match="just now"):
        log.time_at(1)
    with pytest.raises(LogUnavailable, match="just now"):
        await log.position_at(1)
    assert not log.trouble
