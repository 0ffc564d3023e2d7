"""Effects follow the log: whoever saved, and whether it still waits, changes nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.application.loops import Loops
from dms.application.reactors import MOST_FAULTS, News, Reactor, Reactors
from dms.application.writes import Writes
from dms.domain.deployment import Fault
from dms.domain.job import Job, JobState
from dms.errors import ArchiveUnreadable, LogUnavailable, Unavailable
from tests.fixtures.disks import broken_disk
from tests.fixtures.histories import new_job, paid
from tests.fixtures.waiting import wait_for

QUICK = (0.001, 0.01)


class Check(Reactor[Job]):
    """Looks at the payment of each job that says it is paid."""

    name = "check of funding"
    kind = Job

    def __init__(self, log: SQLiteEventLog, check: Callable[[Job, News], Awaitable[None]]) -> None:
        self._log, self._check = log, check
        self.given_up: list[str] = []

    def due(self, aggregate: Job) -> bool:
        return aggregate.state is JobState.FUNDING

    async def react(self, aggregate: Job, news: News) -> None:
        await self._check(aggregate, news)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        self.given_up.append(repr(error))
        aggregate.fail("the check failed", Fault.PROVIDER)
        await self._log.save(aggregate)


class World:
    def __init__(self, log: SQLiteEventLog) -> None:
        self.log, self.loops, self.checked = log, Loops(), list[str]()
        self.writes = Writes()
        self.reactors = Reactors(log, self.loops, QUICK, self.writes)
        self.trouble: list[Exception] = []

    async def check(self, job: Job, _: News) -> None:
        self.checked.append(job.key)
        if self.trouble:
            raise self.trouble.pop(0)
        job.accept_funding("trust")
        await self.log.save(job)

    async def start(self, *open_keys: str) -> Check:
        check = Check(self.log, self.check)
        await self.reactors.start([check], lambda _: open_keys)
        return check

    def state(self, job: Job) -> str:
        found = self.log.load(Job, job.key)
        assert found is not None
        return found.state


@pytest.fixture
async def world(log: SQLiteEventLog) -> AsyncIterator[World]:
    world = World(log)
    yield world
    await world.reactors.close()


async def paid_job(log: SQLiteEventLog) -> Job:
    job = new_job()
    await log.save(job)
    job.report_fund_status(paid())
    return job


async def test_a_caller_that_is_gone_while_it_is_written_changes_nothing(world: World) -> None:
    await world.start()
    job = await paid_job(world.log)
    saving = asyncio.create_task(world.log.save(job))
    await asyncio.sleep(0)
    saving.cancel()
    await wait_for(lambda: world.state(job) == "submitted")
    assert world.checked == [job.key]


async def test_a_start_takes_up_what_was_left(world: World) -> None:
    job, other = await paid_job(world.log), new_job()
    await world.log.save(job, other)
    await world.start(job.key, other.key)
    await wait_for(lambda: world.state(job) == "submitted")
    assert (world.checked, world.state(other)) == ([job.key], "awaiting")


async def test_what_could_not_be_written_has_no_effect(world: World) -> None:
    job = await paid_job(world.log)
    with broken_disk(world.log):
        saving = asyncio.create_task(world.log.save(job))
        await asyncio.sleep(0)
        await world.start(job.key)  # while the decision is in memory alone
        with pytest.raises(LogUnavailable):
            await saving
        await wait_for(lambda: not world.reactors.keys("check of funding"))
    assert (world.checked, world.state(job)) == ([], "awaiting")


async def test_what_is_away_is_waited_for_and_an_error_of_ours_ends_it(world: World) -> None:
    check = await world.start()
    world.trouble = [Unavailable("the chain is away"), ArchiveUnreadable("a file is away")] * MOST_FAULTS
    job = await paid_job(world.log)
    await world.log.save(job)
    await wait_for(lambda: world.state(job) == "submitted")
    assert (len(world.checked), check.given_up) == (2 * MOST_FAULTS + 1, [])

    world.trouble = [ZeroDivisionError("a bug") for _ in range(100)]
    world.checked.clear()
    job = await paid_job(world.log)
    await world.log.save(job)
    await wait_for(lambda: world.state(job) == "failed")
    assert (len(world.checked), check.given_up) == (MOST_FAULTS, ["ZeroDivisionError('a bug')"])


async def test_what_can_not_be_loaded_while_it_is_given_up_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = await world.start()
    world.trouble = [ZeroDivisionError("a bug") for _ in range(100)]
    load, away = world.log.load, 3

    def with_the_archive_away(kind: type[Job], key: str) -> Job | None:
        nonlocal away
        if len(world.checked) == MOST_FAULTS and away:
            away -= 1
            raise ArchiveUnreadable("positions 1 to 7 can't be read")
        return load(kind, key)

    monkeypatch.setattr(world.log, "load", with_the_archive_away)
    job = await paid_job(world.log)
    await world.log.save(job)
    await wait_for(lambda: bool(check.given_up))
    await wait_for(lambda: not world.reactors.keys(check.name))
    assert (away, world.state(job)) == (0, "failed")


async def test_a_disk_that_takes_nothing_is_waited_for_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it does, and whether its error is ours or the system's own."""
    told: list[str] = []
    failed = world.writes.failed

    def tell(what: str, why: str) -> None:
        told.append(why)
        failed(what, why)

    monkeypatch.setattr(world.writes, "failed", tell)
    check = await world.start()
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = Unavailable("file x can't be written")
    wrapped.__cause__ = OSError(errno.EIO, "Input/output error")
    world.trouble = [full, wrapped] * MOST_FAULTS
    job = await paid_job(world.log)
    await world.log.save(job)
    await wait_for(lambda: world.state(job) == "submitted")
    assert (len(world.checked), check.given_up) == (2 * MOST_FAULTS + 1, [])
    assert told == [str(full), str(wrapped)] * MOST_FAULTS
    await wait_for(lambda: not world.writes.troubles)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_a_machine_that_is_short_of_something_is_waited_for(world: World, number: int) -> None:
    check = await world.start()
    world.trouble = [OSError(number, os.strerror(number))] * (2 * MOST_FAULTS)
    job = await paid_job(world.log)
    await world.log.save(job)
    await wait_for(lambda: world.state(job) == "submitted")
    assert (len(world.checked), check.given_up) == (2 * MOST_FAULTS + 1, [])


async def test_a_disk_that_works_again_is_no_trouble_while_something_else_is_away(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await world.start()
    world.trouble = [OSError(errno.ENOSPC, "No space left on device"), *[Unavailable("no peer")] * 100_000]
    await world.log.save(await paid_job(world.log))
    await wait_for(lambda: "can be written again" in caplog.text)
    assert not world.writes.troubles
    assert world.trouble, "it still waits for the peer"


async def test_it_hears_of_what_happens_while_it_works(world: World) -> None:
    heard: list[bool] = []

    async def wait(job: Job, news: News) -> None:
        heard.append(await news.changed(120))
        job = world.log.load(Job, job.key) or job
        if job.open:
            job.accept_funding("trust")
            await world.log.save(job)

    world.check = wait  # type: ignore[assignment,method-assign]
    await world.start()
    job = await paid_job(world.log)
    await world.log.save(job)
    await wait_for(lambda: world.reactors.keys("check of funding") == [job.key])
    job.request_termination("not wanted any more")
    await world.log.save(job)
    await wait_for(lambda: not world.reactors.keys("check of funding"))
    assert (heard, world.state(job)) == ([True], "failed")


class Delivery(Reactor[Job]):
    """Asks the provider, and then again after an hour."""

    name = "delivery"
    kind = Job

    def __init__(self) -> None:
        self.asked: list[str] = []

    def due(self, aggregate: Job) -> bool:
        return aggregate.open

    def waits_for(self, aggregate: Job) -> str:
        return aggregate.provider

    async def react(self, aggregate: Job, news: News) -> None:
        self.asked.append(aggregate.provider)
        await news.changed(3600)


async def test_what_waits_for_a_peer_goes_on_when_that_peer_comes(world: World) -> None:
    delivery = Delivery()
    await world.reactors.start([delivery], lambda _: ())
    for provider in ("12D3KooWOne", "12D3KooWTwo"):
        await world.log.save(new_job(provider=provider))
    await wait_for(lambda: delivery.asked == ["12D3KooWOne", "12D3KooWTwo"])
    world.reactors.on_peer("12D3KooWOne", False)
    world.reactors.on_peer("12D3KooWAnother", True)
    world.reactors.on_peer("12D3KooWTwo", True)
    await wait_for(lambda: len(delivery.asked) > 2)
    assert delivery.asked == ["12D3KooWOne", "12D3KooWTwo", "12D3KooWTwo"]


class Notice(Reactor[Job]):
    """Leaves no event behind."""

    name = "notice"
    kind = Job
    recorded = False

    def __init__(self) -> None:
        self.seen: list[int] = []

    def due(self, aggregate: Job) -> bool:
        return True

    async def react(self, aggregate: Job, news: News) -> None:
        self.seen.append(aggregate.version)


async def test_an_effect_that_leaves_no_event_is_done_once_an_event(world: World) -> None:
    notice = Notice()
    await world.reactors.start([notice], lambda _: ())
    job = new_job()
    await world.log.save(job)
    await wait_for(lambda: notice.seen == [1] and not world.reactors.keys("notice"))
    job.report_fund_status(paid())
    await world.log.save(job)
    await wait_for(lambda: notice.seen == [1, 2] and not world.reactors.keys("notice"))


async def test_what_was_open_at_an_earlier_position_is_taken_up_with_all_since(world: World) -> None:
    notice = Notice()
    job, later = new_job(), new_job()
    await world.log.save(job)
    position = world.log.head
    await world.log.save(later)
    await world.reactors.start([notice], lambda _: [job.key], position)
    await wait_for(lambda: notice.seen == [1, 1])


class Stubborn(Notice):
    """Can't do it before the job says that it is paid."""

    name = "stubborn notice"

    def __init__(self) -> None:
        super().__init__()
        self.giving_up, self.go_on = asyncio.Event(), asyncio.Event()

    async def react(self, aggregate: Job, news: News) -> None:
        if aggregate.version == 1:
            raise ZeroDivisionError("a bug")
        await super().react(aggregate, news)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        self.giving_up.set()
        await self.go_on.wait()


async def test_an_event_that_comes_while_an_effect_is_given_up_is_not_lost(world: World) -> None:
    stubborn = Stubborn()
    await world.reactors.start([stubborn], lambda _: ())
    job = new_job()
    await world.log.save(job)
    await asyncio.wait_for(stubborn.giving_up.wait(), 60)
    job.report_fund_status(paid())
    await world.log.save(job)
    (_, news) = world.reactors._running[stubborn.name]._working[job.key]
    await wait_for(lambda: news.unread)
    stubborn.go_on.set()
    await wait_for(lambda: stubborn.seen == [2] and not world.reactors.keys(stubborn.name))


async def test_a_giving_up_that_fails_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [LogUnavailable("the disk is full"), ZeroDivisionError("a bug")]
    plain = Check.give_up

    async def give_up(self: Check, aggregate: Job, error: Exception) -> None:
        if failures:
            raise failures.pop()
        await plain(self, aggregate, error)

    monkeypatch.setattr(Check, "give_up", give_up)
    world.trouble = [ZeroDivisionError("a bug") for _ in range(100)]
    await world.start()
    job = await paid_job(world.log)
    await world.log.save(job)
    await wait_for(lambda: world.state(job) == "failed")
    assert len(world.checked) == MOST_FAULTS + 2
