"""The log as those who follow it read it: the newest events from memory, older ones from the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.health import LogHealth
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.tail import Tail
from dms.application.wakeup import Wakeup
from dms.domain.event import Recorded
from dms.errors import InvalidInput

READ_BATCH = 1000


class LiveEvents:
    def __init__(self, store: LogStore, health: LogHealth, kept_events: int) -> None:
        """kept_events: how many of the newest are held in memory at least."""
        self._store, self._health = store, health
        self._tail = Tail(store.recorder.head, kept_events)
        self._changed = Wakeup()

    @property
    def head(self) -> int:
        """As published: a thread may have committed further, which the loop does not know yet."""
        return self._tail.head

    # --- being told of commits -----------------------------------------------------------------------
    def publish(self, events: Sequence[Recorded]) -> None:
        """They are on the disk."""
        if events[0].position != self.head + 1:  # the writer died between a commit and its telling
            self._begin_behind(events[0].position - 1)
        self._tail.extend(events)
        self._changed.wake()

    def catch_up(self) -> None:
        """With commits that were not told."""
        if self._store.recorder.head != self.head:
            self._begin_behind(self._store.recorder.head)
            self._changed.wake()

    def forget(self) -> None:
        """What is held is open; later readers go to the disk."""
        self._begin_behind(self.head)

    def _begin_behind(self, position: int) -> None:
        self._tail = Tail(position, self._tail.kept)

    # --- reading -------------------------------------------------------------------------------------
    async def read(self, after: int, limit: int, topics: Sequence[str], stream: str) -> Sequence[Recorded]:
        """See EventLog.read. Raises LogUnavailable."""
        if not stream:
            recent = self._tail.after(after, 2 * self._tail.kept if topics else limit)
            if recent is not None:
                return _matching(recent, topics, "")[:limit]
        return await self._stored(after, limit, topics, stream, self.head)

    async def subscribe(
        self, after: int, topics: Sequence[str], stream: str
    ) -> AsyncGenerator[Sequence[Recorded], None]:
        """Raises InvalidInput for a position the log has not reached. Holds no buffer of its own:
        a slow reader only reads later, from the tail or from the disk."""
        if not 0 <= after <= self.head:
            raise InvalidInput(f"position {after} is not in this log; the newest is {self.head}")
        position = after
        while True:
            until = self.head
            found: Sequence[Recorded]
            batch = self._tail.after(position, READ_BATCH)
            if batch is None:
                found = await self._stored(position, READ_BATCH, topics, stream, until)
                position = found[-1].position if len(found) == READ_BATCH else until
            else:
                found = _matching(batch, topics, stream)
                position = batch[-1].position if batch else position
            if found:
                yield found
            elif position >= self.head:
                await self._changed.wait()

    async def _stored(
        self, after: int, limit: int, topics: Sequence[str], stream: str, until: int
    ) -> Sequence[Recorded]:
        try:
            return await asyncio.to_thread(self._store.read, after, limit, topics=topics, stream=stream, until=until)
        except PersistenceError as error:
            raise self._health.unreadable(error) from error


def _matching(events: Sequence[Recorded], topics: Sequence[str], stream: str) -> Sequence[Recorded]:
    if not topics and not stream:
        return events
    return [e for e in events if (not topics or e.topic in topics) and (not stream or e.originator_id == stream)]
