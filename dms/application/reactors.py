"""Effects follow the log: a reactor does one kind of effect, and the log alone wakes it.

A command handler loads, decides, saves and answers. What is to be done about it is done here, by whoever subscribes to
those events: whether the handler's caller still waits or not changes nothing. What a reactor has to do follows from the
state of the aggregate (`due`), so a start derives it anew from the aggregates that are open, and doing it twice is
harmless. Only what is on the disk has an effect: a decision that could still fail to be written has none.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, ClassVar, Generic, TypeVar

from dms.application.cause import caused_by
from dms.application.loops import Loop, Loops, said
from dms.application.ports.event_log import EventLog
from dms.application.tasks import cancelled, either
from dms.application.writes import Writes
from dms.backoff import Backoff
from dms.disk import is_of_the_disk, is_of_the_machine
from dms.domain.aggregate import Aggregate
from dms.domain.event import Recorded, new_id
from dms.errors import DmsError, Unavailable

A = TypeVar("A", bound=Aggregate)
T = TypeVar("T")

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 60.0)  # first and longest pause
MOST_FAULTS = 8  # errors of ours in a row, until the effect is given up: some four minutes


class News:
    """What a reactor at work hears of its aggregate."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.newest: Recorded | None = None  # that woke it; None for a start
        self.peer_id = ""  # of whom the work waits for

    def tell(self, event: Recorded | None) -> None:
        self.newest = event or self.newest
        self._changed.set()

    @property
    def unread(self) -> bool:
        return self._changed.is_set()

    def read(self) -> None:
        """What was told until now is in the state that is looked at next."""
        self._changed.clear()

    async def changed(self, timeout_seconds: float | None = None) -> bool:
        """Waits for the next event of the aggregate, or for its peer to come; False when the time ran out first."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def rest(self, seconds: float, due: Callable[[], bool]) -> bool:
        """Waits so long, whatever happens, as long as the work is due. Whether it still is."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while due():
            if not await self.changed(deadline - clock()):
                return due()
        return False

    async def during(self, work: Coroutine[Any, Any, T], due: Callable[[], bool], name: str) -> T | None:
        """The work's result; None when it is not due any more, which ends the work. name: of its task."""
        working = asyncio.create_task(work, name=name)
        try:
            while due():
                if working.done():
                    return working.result()
                await either(working, self.changed())
            return None
        finally:
            await cancelled(working)


class Reactor(ABC, Generic[A]):
    """One kind of effect for the aggregates of one kind. name: what it does, for people and logs."""

    name: ClassVar[str]
    kind: type[A]
    recorded: ClassVar[bool] = True
    """Whether what it does leaves an event, after which it is not due. If not, it is done once `react` has returned,
    until the next event; what a crash left of it is then for its owner to find at the start."""

    @property
    def topics(self) -> Iterable[str]:
        """Of the events that can give it work, or change what it is doing."""
        return sorted(event_type.TOPIC for event_type in self.kind.event_types())

    @abstractmethod
    def due(self, aggregate: A) -> bool:
        """Whether its state asks for this effect. Pure."""

    @abstractmethod
    async def react(self, aggregate: A, news: News) -> None:
        """Takes a step and records what came of it; it is called again while it is due. So it may return at any time,
        but not at once without having done or waited for something. Raises Unavailable (LogUnavailable, a peer, an
        engine) when what it needs is away, or the OSError of a disk that is full or broken, or of descriptors or memory
        that are short: it is tried again for as long as it is due."""

    def waits_for(self, aggregate: A) -> str:
        """The peer that the effect is had from; empty for none. When it comes, the work goes on at once. Pure."""
        return ""

    async def give_up(self, aggregate: A, error: Exception) -> None:
        """Decides what becomes of an effect that failed MOST_FAULTS times in a row by an error of ours. Unless this
        makes it not due any more, it is not tried again before the next event or start. A recorded one has to."""


def still_due(event_log: EventLog, reactor: Reactor[A], key: str) -> bool:
    """By what is decided now, be it written or not."""
    aggregate = event_log.load(reactor.kind, key)
    return aggregate is not None and reactor.due(aggregate)


class Reaction(Generic[A]):
    """A reactor at work: one task for each aggregate that it is due for."""

    def __init__(
        self, reactor: Reactor[A], event_log: EventLog, retry: tuple[float, float], writes: Writes | None = None
    ) -> None:
        self._reactor, self._log, self._retry, self._writes = reactor, event_log, retry, writes or Writes()
        self._without_disk: set[str] = set()
        self.topics = frozenset(reactor.topics)
        self._working: dict[str, tuple[asyncio.Task[None], News]] = {}

    def start(self, keys: Iterable[str]) -> None:
        """keys: the aggregates that may have something due."""
        for key in keys:
            self._look(key, None)

    def take(self, event: Recorded) -> None:
        self._look(event.originator_id.removeprefix(f"{self._reactor.kind.KIND}-"), event)

    async def close(self) -> None:
        """Stops where it is; the next start goes on from the log."""
        tasks = [task for task, _ in self._working.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def keys(self) -> list[str]:
        """Of the aggregates at work, oldest first (UUIDv7s sort by age)."""
        return sorted(self._working)

    def peer_came(self, peer_id: str) -> None:
        for _, news in list(self._working.values()):
            if news.peer_id == peer_id:
                news.tell(None)

    def _look(self, key: str, event: Recorded | None) -> None:
        known = self._working.get(key)
        if known is not None:
            known[1].tell(event)
            return
        news = News()
        news.newest = event
        task = asyncio.create_task(self._work(key, news), name=f"{self._reactor.name} {key}")
        self._working[key] = task, news

    async def _work(self, key: str, news: News) -> None:
        try:
            await self._until_done(key, news)
        finally:
            self._goes_on(key)
            del self._working[key]  # in the same moment as the last look, so that no event falls between

    async def _until_done(self, key: str, news: News) -> None:
        faults, backoff = 0, Backoff(*self._retry)
        while True:
            try:
                if not await self._step(key, news):
                    return
            except Unavailable as error:
                self._waits(key, error)
            except Exception as error:  # noqa: BLE001  the outermost loop of a task: nothing may end it silently
                if is_of_the_machine(error):
                    self._waits(key, error)
                    await news.changed(backoff.next())
                    continue
                faults += 1
                self._tell(logging.ERROR, key, f"failed {faults} times: {said(error)}", error)
                if faults >= MOST_FAULTS and await self._given_up(key, error):
                    if not news.unread:
                        return
                    faults = 0  # an event came meanwhile, and may have changed what failed
                    backoff.reset()
                    continue
            else:
                self._goes_on(key)
                if not self._reactor.recorded and not news.unread:
                    return
                faults = 0
                backoff.reset()
                continue
            await news.changed(backoff.next())

    @property
    def _files(self) -> str:
        return f"what {self._reactor.name} needs"

    def _waits(self, key: str, error: Exception) -> None:
        self._tell(logging.WARNING, key, f"waits: {error}")
        if is_of_the_disk(error) or is_of_the_disk(error.__cause__ or error):
            self._without_disk.add(key)
            self._writes.failed(self._files, str(error))
        else:
            self._goes_on(key)

    def _goes_on(self, key: str) -> None:
        """As far as the disk is concerned; or it is over."""
        self._without_disk.discard(key)
        if not self._without_disk:
            self._writes.worked(self._files)

    async def _step(self, key: str, news: News) -> bool:
        """Whether there was something to do."""
        news.read()
        aggregate = await self._settled(key)
        if aggregate is None or not self._reactor.due(aggregate):
            return False
        newest, news.peer_id = news.newest, self._reactor.waits_for(aggregate)
        with caused_by(newest.event_id if newest else new_id(), newest.traceparent if newest else ""):
            await self._reactor.react(aggregate, news)
        return True

    async def _settled(self, key: str) -> A | None:
        """As it is on the disk. Raises LogUnavailable."""
        while (aggregate := self._log.load(self._reactor.kind, key)) is not None:
            version = aggregate.version
            await self._log.save(aggregate)  # nothing is pending: waits for what was decided
            if (now := self._log.load(self._reactor.kind, key)) is not None and now.version == version:
                return now
        return None

    async def _given_up(self, key: str, error: Exception) -> bool:
        """Whether that worked; if not, all is tried again."""
        try:
            aggregate = self._log.load(self._reactor.kind, key)
            if aggregate is None:
                return True
            self._tell(logging.ERROR, key, "is given up")
            with caused_by(new_id()):
                await self._reactor.give_up(aggregate, error)
        except Exception as failure:  # noqa: BLE001  the outermost loop of a task: nothing may end it silently
            self._tell(logging.ERROR, key, f"can't be given up: {said(failure)}", failure)
            return False
        return True

    def _tell(self, level: int, key: str, text: str, error: Exception | None = None) -> None:
        ours = None if isinstance(error, DmsError) else error
        told = {"action": "reactor_waits", "reactor": self._reactor.name, "key": key}
        log.log(level, "%s %s %s", self._reactor.name, key, text, exc_info=ours, extra=told)


class Reactors:
    """All of them, by name."""

    def __init__(
        self,
        event_log: EventLog,
        loops: Loops,
        retry: tuple[float, float] = RETRY_SECONDS,
        writes: Writes | None = None,
    ) -> None:
        """retry: first and longest pause after a failure, seconds. writes: hears of disks that take nothing."""
        self._log, self._loops, self._retry, self._writes = event_log, loops, retry, writes or Writes()
        self._running: dict[str, Reaction[Any]] = {}
        self._following: list[Loop] = []

    async def start(
        self,
        reactors: Iterable[Reactor[Any]],
        open_keys: Callable[[str], Iterable[str]],
        after: int | None = None,
        name: str = "reactors",
    ) -> None:
        """open_keys: KIND -> keys of the aggregates of that kind that may have something due, all that were open at
        position `after`; None for now. What was saved since may be among them or not. name: of what follows the log for
        them, each time another."""
        position = self._log.head if after is None else after
        woken: dict[str, list[Reaction[Any]]] = {}
        for reactor in reactors:
            reaction: Reaction[Any] = Reaction(reactor, self._log, self._retry, self._writes)
            self._running[reactor.name] = reaction
            reaction.start(open_keys(reactor.kind.KIND))
            for topic in reaction.topics:
                woken.setdefault(topic, []).append(reaction)

        async def follow() -> None:
            """One reading of the log for all: each only hears of what wakes it."""
            nonlocal position
            async with aclosing(self._log.subscribe(position, topics=tuple(woken))) as batches:
                async for batch in batches:
                    for event in batch:
                        for reaction in woken[event.topic]:
                            reaction.take(event)
                    position = batch[-1].position

        self._following.append(self._loops.start(name, follow, needed=True))

    def keys(self, name: str) -> list[str]:
        """What that reactor is at work on, oldest first."""
        return self._running[name].keys()

    def on_peer(self, peer_id: str, connected: bool) -> None:
        """What waits for that peer goes on when it comes: the one thing outside the log that wakes a reactor."""
        if connected:
            for reaction in self._running.values():
                reaction.peer_came(peer_id)

    async def close(self) -> None:
        for loop in self._following:
            await loop.close()
        for reaction in self._running.values():
            await reaction.close()
