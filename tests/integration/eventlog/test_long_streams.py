"""A stream that says the same again and again is not read from its first word."""

from __future__ import annotations

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.domain.aggregate import Aggregate
from dms.domain.directory import Offering, Provider
from dms.domain.event import Recorded
from dms.domain.job import Job
from dms.domain.resources import Resources
from tests.fixtures.histories import new_job, paid

PEER = "12D3KooWProvider"
CHANGES = 51
ADDRESSES = ("/ip4/192.0.2.7/tcp/9000",)


def offering(number: int) -> Offering:
    return Offering(channel="nunet-test", online=True, onboarded=True, offered=Resources(memory_mb=number))


@pytest.fixture
def read(log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """The events that were read of the disk."""
    found: list[Recorded] = []
    opened = log.store.mapper.opened

    def noted(stored: object) -> Recorded:
        found.append(opened(stored))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(log.store.mapper, "opened", noted)
    return found


async def history(log: SQLiteEventLog, end: str) -> Provider:
    provider = Provider(PEER)
    for number in range(1, CHANGES):
        provider.advertise(offering(number), ADDRESSES)
        if number % 7 == 0:
            provider.withdraw()
    if end == "withdrawn":
        provider.withdraw()
    elif end == "lost":
        provider.lose("not renewed")
    await log.save(provider)
    log._aggregates.evict([provider.id])
    return provider


def state(aggregate: Aggregate) -> dict[str, object]:
    return {name: value for name, value in vars(aggregate).items() if name != "life"}


@pytest.mark.parametrize("end", ["advertised", "withdrawn", "lost"])
async def test_of_a_provider_the_newest_word_is_read_and_all_is_known(
    log: SQLiteEventLog, read: list[Recorded], end: str
) -> None:
    written = await history(log, end)
    found = log.load(Provider, PEER)
    assert found is not None
    assert found is not written
    assert state(found) == state(written)
    assert len(read) == (1 if end == "advertised" else 2)


@pytest.mark.parametrize("end", ["advertised", "withdrawn", "lost"])
async def test_what_is_recorded_next_is_the_same(log: SQLiteEventLog, end: str) -> None:
    written = await history(log, end)
    found = log.load(Provider, PEER)
    assert found is not None
    changed = end != "advertised"
    assert found.advertise(offering(CHANGES - 1), ADDRESSES) is changed
    assert found.advertise(offering(CHANGES), ADDRESSES)
    await log.save(found)
    events = log.store.read_stream(found.id)
    assert [e.originator_version for e in events] == list(range(1, written.version + changed + 2))
    whole = Provider.project(None, events)
    assert whole is not None
    assert state(whole) == state(found)


async def test_where_no_event_tells_all_each_is_read(log: SQLiteEventLog, read: list[Recorded]) -> None:
    job = new_job()
    job.report_fund_status(paid())
    await log.save(job)
    log._aggregates.evict([job.id])
    found = log.load(Job, job.key)
    assert found is not None
    assert found.version == job.version == len(read)


async def test_a_provider_that_never_offered_anything_is_none(log: SQLiteEventLog) -> None:
    assert log.load(Provider, PEER) is None
