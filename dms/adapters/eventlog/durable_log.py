"""The event log as the application uses it, put together of its parts. All of it belongs to one asyncio loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.aggregates import Aggregates
from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.group_commit import GroupCommit, Save
from dms.adapters.eventlog.health import LogHealth
from dms.adapters.eventlog.live import LiveEvents
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.recorder import LogRecorder
from dms.adapters.eventlog.tail import KEPT_EVENTS
from dms.adapters.eventlog.verifier import Verifier
from dms.application.cause import current_cause
from dms.application.loops import Loops
from dms.domain.aggregate import Aggregate
from dms.domain.chain import SignedRecord, id_bytes
from dms.domain.event import Event, Recorded, decode, misplaced, new_id_bytes
from dms.domain.sealing import scope_of, streams_of
from dms.errors import LogCorrupt, LogUnavailable, PeerMisbehaved

A = TypeVar("A", bound=Aggregate)
log = logging.getLogger(__name__)


def unix_us() -> int:
    return time.time_ns() // 1000


class DurableEventLog:
    """Implements application.ports.event_log.EventLog. Build it, then `start()` on the loop that uses it."""

    def __init__(
        self,
        recorder: LogRecorder,
        now: Callable[[], int] = unix_us,
        kept_events: int = KEPT_EVENTS,
        loops: Loops | None = None,
    ) -> None:
        """now: Unix time in microseconds. kept_events: how many of the newest are held in memory at
        least."""
        self.recorder = recorder
        self.store = LogStore(recorder)
        self._now = now
        self.health = LogHealth(recorder.fault)
        self._aggregates = Aggregates(self.store, self.health)
        self._live = LiveEvents(self.store, self.health, kept_events)
        self._commits = GroupCommit(recorder, self._live, self._aggregates, self.health, loops or Loops())

    @property
    def head(self) -> int:
        return self._live.head

    @property
    def first(self) -> int:
        return self.recorder.first

    @property
    def trouble(self) -> str:
        return self.health.trouble

    def on_trouble(self, react: Callable[[], None]) -> None:
        self.health.on_trouble(react)

    async def try_to_write(self) -> None:
        """After a failed write: whether one succeeds again, when no command comes that would tell."""
        try:
            await self.between_commits(self.recorder.probe)
        except (PersistenceError, LogUnavailable) as error:
            log.debug("the event log still can't be written: %s", error)
        else:
            self.health.write_succeeded()

    async def start(self) -> None:
        self.health.start()
        self._commits.start()

    async def close(self) -> None:
        """Writes what is queued, then lets go of the file."""
        await self._commits.close()
        self.recorder.close()

    # --- aggregates ------------------------------------------------------------------------------
    def load(self, aggregate_type: type[A], key: str) -> A | None:
        return self._aggregates.load(aggregate_type, key)

    def index(self, kind: type[A], restate: Callable[[str, A | None], None]) -> None:
        self._aggregates.index(kind, restate)

    async def save(self, *aggregates: Aggregate) -> int:
        changed = [aggregate for aggregate in aggregates if aggregate.pending]
        if not changed:
            return await self._settled(aggregates)
        try:
            self._aggregates.check_live(changed)
            save = self._taken(changed, aggregates[0].correlation_id)
        except PersistenceError as error:  # the keys of personal data are read
            self._aggregates.roll_back(changed)
            raise self.health.unreadable(error) from error
        except BaseException:
            self._aggregates.roll_back(changed)
            raise
        self._aggregates.hold(changed)
        self._commits.put(save)
        return await asyncio.shield(save.done)  # who is cancelled only stops waiting: what was decided is written

    def _taken(self, aggregates: Sequence[Aggregate], correlation_id: str) -> Save:
        """What they decided, sealed. Raises LogUnavailable, PersistenceError."""
        self._commits.check_taking()
        cause, now = current_cause(), self._now()
        correlation, causation = id_bytes(correlation_id), id_bytes(cause.causation_id)
        draft = self.store.mapper.draft
        drafts: list[Draft] = []
        events: list[Event] = []
        for aggregate in aggregates:
            pending = aggregate.collect_pending()
            if pending[0][0] == 1:
                self._aggregates.keep_new(aggregate)
            for version, event in pending:
                drafts.append(
                    draft(
                        aggregate.id, version, event, now, new_id_bytes(), correlation, causation, cause.traceparent,
                    )
                )  # fmt: skip
                events.append(event)
        if not self._commits.has_room(len(drafts)) and not self._aggregates.any_uncommitted(aggregates):
            raise LogUnavailable("the event log is overloaded; try again in a moment")
        return Save(drafts, events, aggregates)

    async def _settled(self, aggregates: Sequence[Aggregate]) -> int:
        """An answer that repeats an earlier one waits until that one is durable."""
        for done in self._commits.saves_of(aggregates) if self._aggregates.any_uncommitted(aggregates) else ():
            await asyncio.shield(done)
        return self.head

    async def written(self) -> bool:
        waiting = self._commits.waiting()
        if waiting:
            await asyncio.wait(waiting)
        return all(done.exception() is None for done in waiting)

    async def between_commits(self, work: Callable[[], None]) -> None:
        """See GroupCommit.between_commits."""
        await self._commits.between_commits(work)

    def on_commit(self, tell: Callable[[int, float, float], None]) -> None:
        """See GroupCommit.on_commit."""
        self._commits.on_commit(tell)

    # --- reading -----------------------------------------------------------------------------------
    async def read(self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "") -> Sequence[Recorded]:
        return await self._live.read(after, limit, topics, stream)

    def subscribe(
        self, after: int, *, topics: Sequence[str] = (), stream: str = ""
    ) -> AsyncGenerator[Sequence[Recorded], None]:
        return self._live.subscribe(after, topics, stream)

    async def position_at(self, time: int) -> int:
        with self._reading():
            return min(await asyncio.to_thread(self.recorder.position_at, time), self.head)

    def time_at(self, position: int) -> int:
        with self._reading():
            return self.recorder.time_at(position)

    def previous_hash(self, position: int) -> bytes:
        with self._reading():
            return self.recorder.previous_hash(position)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raises LogUnavailable where the file can't be read."""
        try:
            yield
        except PersistenceError as error:
            raise self.health.unreadable(error) from error

    def verify(self) -> Iterator[int]:
        """See Verifier.chain; blocking."""
        return Verifier(self.recorder).chain()

    # --- personal data -----------------------------------------------------------------------------
    def open_record(self, record: SignedRecord) -> Event:
        topic, version, data = record.topic, record.schema_version, record.data.encode()
        where, keys = f"a record of {record.stream}", self.recorder.keys
        try:
            with self._reading():
                event = decode(topic, version, data, keys)
                wrong = misplaced(topic, version, data, keys.of(scope_of(record.stream)))
        except LogCorrupt as error:
            raise PeerMisbehaved(f"{where} can't be read: {error}") from error
        if wrong:
            raise PeerMisbehaved(f"{where} {wrong}")
        return event

    def seal_key(self, scope: str) -> bytes:
        with self._reading():
            return self.recorder.keys.secret(scope)

    def adopt_seal_key(self, scope: str, secret: bytes) -> None:
        with self._reading():
            self.recorder.keys.adopt(scope, secret)

    def seal(self, scope: str, text: str, purpose: str) -> str:
        with self._reading():
            return self.recorder.keys.seal(scope, text.encode(), purpose)

    def unseal(self, scope: str, token: str, purpose: str) -> str | None:
        with self._reading():
            plain = self.recorder.keys.of(scope).open(token, purpose)
        return None if plain is None else plain.decode()

    def pseudonym(self, text: str) -> str:
        with self._reading():
            return self.recorder.keys.pseudonym(text)

    async def destroy_seal_keys(self, scopes: Sequence[str]) -> int:
        self.health.check()
        try:
            return await asyncio.to_thread(self.recorder.destroy_keys, scopes)
        except PersistenceError as error:
            raise LogUnavailable(f"the keys can't be destroyed: {error}; try again") from error
        finally:
            self._live.forget()
            for scope in scopes:
                self._aggregates.evict(streams_of(scope))
