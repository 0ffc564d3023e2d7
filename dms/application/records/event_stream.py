"""The log as a stream for whoever reads along: from a position on, filtered, to the newest or for ever.

One cursor for all readers: the position of the last event that they saw. Nothing is buffered here: a slow reader
only reads later.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from msgspec import Struct

from dms.application.ports.event_log import EventLog
from dms.application.records.job_events import events_of_job, streams_of_job
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.directory import Provider
from dms.domain.event import EVENT_TYPES, Recorded
from dms.domain.job import Job
from dms.errors import Gone, InvalidInput

PAGE = 1000
Predicate = Callable[[Recorded], bool]


class EventFilter(Struct, frozen=True, kw_only=True):
    """types: topics (`job.completed`), or aggregates (`job`, `job.*`); empty: all. provider: peer id of the compute
    provider that an event is about. since, until: Unix µs, from the first on, before the second; 0: unbounded. client:
    only of the jobs of that one; None: of all. deployments_only: of this machine as a provider."""

    types: tuple[str, ...] = ()
    job_id: str = ""
    provider: str = ""
    since: int = 0
    until: int = 0
    client: str | None = None
    deployments_only: bool = False

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to ask the log for; empty when the types name more than single topics."""
        return self.types if all(name in EVENT_TYPES for name in self.types) else ()


async def events(
    log: EventLog, wanted: EventFilter, after: int, own_peer_id: str, *, follow: bool = False
) -> AsyncGenerator[Sequence[Recorded], None]:
    """Batches of events behind position `after`, in order; following, for ever.
    Raises InvalidInput for a position the log has not reached, Gone for one whose next event is archived."""
    check_cursor(log, wanted, after)
    fits = predicate(log, wanted, own_peer_id)
    position = after
    async with aclosing(past_events(log, wanted, after, fits)) as pages:
        async for found, position in pages:  # noqa: B007  the live part goes on behind the last one
            if found:
                yield found
    if not follow:
        return
    async with aclosing(log.subscribe(position, topics=wanted.topics)) as batches:
        async for batch in batches:
            found = [event for event in batch if fits(event)]
            if found:
                yield found


async def past_events(
    log: EventLog, wanted: EventFilter, after: int, fits: Predicate
) -> AsyncGenerator[tuple[Sequence[Recorded], int], None]:
    """(events that fit, the position up to which nothing is left out) up to the head at the time of the last read."""
    async with aclosing(_past(log, wanted, after)) as pages:
        async for page, position in pages:
            yield [event for event in page if fits(event)], position


def check_cursor(log: EventLog, wanted: EventFilter, after: int) -> None:
    """Raises InvalidInput, and Gone for a cursor in the archive, unless one job is asked for: all of it can be had."""
    if after > log.head:
        raise InvalidInput(
            f"position {after} is in the future: the newest event is at {log.head}",
            [("?after", f"at most {log.head}")],
        )
    if after + 1 < log.first and not wanted.job_id:
        raise Gone(
            f"the events behind position {after} are archived: the first available is {log.first}, so go on with "
            f"after={log.first - 1}; an export holds the earlier ones too",
            log.first,
        )


async def _past(log: EventLog, wanted: EventFilter, after: int) -> AsyncGenerator[tuple[Sequence[Recorded], int], None]:
    """(events, the position up to which nothing is left out) up to the head at the time of the last read."""
    if wanted.job_id:
        head = log.head
        yield [event for event in await events_of_job(log, wanted.job_id) if after < event.position <= head], head
        return
    position = after
    while True:
        head = log.head
        page = await log.read(position, PAGE, topics=wanted.topics)
        full = len(page) == PAGE
        position = page[-1].position if full else max(head, page[-1].position if page else head)
        yield page, position
        if not full:
            return


def predicate(log: EventLog, wanted: EventFilter, own_peer_id: str) -> Predicate:
    """Whether an event is wanted."""
    tests: list[Predicate] = []
    if wanted.types:
        exact = frozenset(wanted.types)
        heads = tuple(name.removesuffix("*").removesuffix(".") + "." for name in wanted.types)
        tests.append(lambda event: event.topic in exact or event.topic.startswith(heads))
    if wanted.job_id:
        streams = streams_of_job(wanted.job_id)
        tests.append(lambda event: event.originator_id in streams)
    if wanted.provider:
        tests.append(lambda event: _provider_of(log, event, own_peer_id) == wanted.provider)
    if wanted.client is not None:
        tests.append(lambda event: _client_of(log, event) == wanted.client)
    if wanted.deployments_only:
        tests.append(lambda event: event.kind in (Deployment.KIND, Device.KIND))
    if wanted.since:
        tests.append(lambda event: event.time >= wanted.since)
    if wanted.until:
        tests.append(lambda event: event.time < wanted.until)
    return lambda event: all(test(event) for test in tests)


def _client_of(log: EventLog, event: Recorded) -> str | None:
    """Whose job the event is of; None where it is of none that was asked for here."""
    job = log.load(Job, event.key) if event.kind == Job.KIND else None
    return job.client if job is not None else None


def _provider_of(log: EventLog, event: Recorded, own_peer_id: str) -> str:
    """Peer id of the compute provider that the event is about; empty for none."""
    kind, _, key = event.originator_id.partition("-")
    if kind in (Provider.KIND, Device.KIND):
        return key
    if kind == Deployment.KIND:
        return own_peer_id
    job = log.load(Job, key) if kind == Job.KIND else None
    return job.provider if job is not None else ""
