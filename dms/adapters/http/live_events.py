"""Events for many subscriptions from one reading of the log: each event is encoded once, and written to all who want it
in the turn of the loop in which the feed's position moves. So what the feed has not passed yet a subscription that
catches up reads by itself, and it joins in a turn in which it stands where the feed does: nothing is missed or doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Protocol

import msgspec

from dms.adapters.http.connection import text_frame
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.records.cloudevents import cloud_event
from dms.application.records.event_stream import EventFilter, check_cursor, past_events, predicate
from dms.domain.event import Recorded

_encode = msgspec.json.Encoder().encode

SENDS_A_TURN = 200  # then others get the loop
BYTES_A_WRITE = 65_536  # of past events


class Reader(Protocol):
    """Where frames of a subscription go."""

    def write(self, frames: bytes) -> None:
        """At once, for what is new."""

    async def send(self, frames: bytes) -> None:
        """At the reader's pace, for what is past."""


class Subscription:
    """position: of the last event that it was sent, or that it does not want."""

    def __init__(self, name: str, wanted: EventFilter, after: int, reader: Reader, *, personal: bool) -> None:
        self.name, self.wanted, self.position, self.reader, self.personal = name, wanted, after, reader, personal

    def frame(self, body: bytes) -> bytes:
        return text_frame(b'{"id":%s,"event":%s}' % (_encode(self.name), body))


class EventFeed:
    """position: every event up to it was written to those who follow."""

    def __init__(self, log: EventLog, own_peer_id: str, loops: Loops) -> None:
        self._log, self._own, self._loops = log, own_peer_id, loops
        self._following: dict[Subscription, Callable[[Recorded], bool]] = {}
        self._watching: dict[str, set[Callable[[], object]]] = {}
        self.position = 0
        self._loop: Loop | None = None

    def start(self) -> None:
        self.position = self._log.head
        self._loop = self._loops.start("live events", self._follow, needed=True)

    async def close(self) -> None:
        if self._loop is not None:
            await self._loop.close()

    async def follow(self, wanted: Subscription) -> None:
        """Until cancelled. Raises InvalidInput, Gone for a position from which it can't be followed."""
        check_cursor(self._log, wanted.wanted, wanted.position)
        fits = predicate(self._log, wanted.wanted, self._own)
        while True:
            await self._catch_up(wanted, fits)
            if wanted.position >= self.position:
                break
        self._following[wanted] = fits
        try:
            wanted.reader.write(text_frame(b'{"id":%s,"caught_up":%d}' % (_encode(wanted.name), wanted.position)))
            await asyncio.get_running_loop().create_future()
        finally:
            del self._following[wanted]

    async def _catch_up(self, wanted: Subscription, fits: Callable[[Recorded], bool]) -> None:
        async with aclosing(past_events(self._log, wanted.wanted, wanted.position, fits)) as pages:
            async for found, position in pages:
                for frames, last in _joined(found, wanted, self._own):
                    await wanted.reader.send(frames)
                    wanted.position = last
                wanted.position = position

    @contextmanager
    def watching(self, job_id: str, tell: Callable[[], object]) -> Iterator[None]:
        """Calls `tell` after each event of the job."""
        tells = self._watching.setdefault(job_id, set())
        tells.add(tell)
        try:
            yield
        finally:
            tells.discard(tell)
            if not tells:
                self._watching.pop(job_id, None)

    async def _follow(self) -> None:
        async with aclosing(self._log.subscribe(self.position)) as batches:
            async for batch in batches:
                await self._hand_on(batch)

    async def _hand_on(self, batch: Sequence[Recorded]) -> None:
        sent = 0
        for recorded in batch:
            sent += self._write(recorded)
            for tell in tuple(self._watching.get(recorded.correlation_id, ())):
                tell()
            if sent >= SENDS_A_TURN:
                sent = 0
                await asyncio.sleep(0)

    def _write(self, recorded: Recorded) -> int:
        """To how many. All in one turn with the position, and nothing of it when it can't be told who wants it."""
        wanting = [one for one, fits in self._following.items() if one.position < recorded.position and fits(recorded)]
        bodies = {
            personal: cloud_event(recorded, self._own, personal=personal)
            for personal in {one.personal for one in wanting}
        }
        self.position = recorded.position
        for one in wanting:
            one.reader.write(one.frame(bodies[one.personal]))
            one.position = recorded.position
        return len(wanting)


def _joined(found: Sequence[Recorded], wanted: Subscription, own_peer_id: str) -> Iterator[tuple[bytes, int]]:
    """(frames, position of the last event in them), some at a time."""
    frames: list[bytes] = []
    size = 0
    for recorded in found:
        frames.append(wanted.frame(cloud_event(recorded, own_peer_id, personal=wanted.personal)))
        size += len(frames[-1])
        if size >= BYTES_A_WRITE:
            yield b"".join(frames), recorded.position
            frames, size = [], 0
    if frames:
        yield b"".join(frames), found[-1].position
