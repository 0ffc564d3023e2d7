"""What the engine says happened to this node's containers, kept here as it happens: the engine itself remembers its
last 256 events only, and none over a restart. Signals that it sends while it goes down reach who listens.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import msgspec

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.endings import ContainerEvent, death_in
from dms.adapters.executors.engine import Engine, payloads
from dms.adapters.executors.profile import LABEL_JOB, LABEL_NODE, LABEL_PART
from dms.domain.decoding import UNREADABLE
from dms.errors import ExecutorUnavailable, NotFound

logger = logging.getLogger(__name__)

ENGINE_KEEPS = 256  # events
_ACTIONS = ("start", "kill", "oom", "die", "stop", "destroy")
_OF_A_JOB = 256  # the newest; a signal a second would else be kept for ever
_RECONNECT_SECONDS = 0.5
_QUIET_SECONDS = 1.0  # a backlog has come when nothing more comes for so long
_STILL_AWAY = 1 << 63
_TOLD_AFTER_US = 1_000_000  # the engine tells of a death a little later than the death
_NUMBER = re.compile(r"[0-9]{1,10}")
_GOING_DOWN_NS = 30_000_000_000  # how long before it is gone an engine may have begun to stop its containers
_COMING_UP_NS = 1_000_000_000  # how long it may still do so once it answers again


class _Actor(msgspec.Struct):
    container: str = msgspec.field(name="ID")
    attributes: dict[str, str] = msgspec.field(name="Attributes", default_factory=dict)


class _Event(msgspec.Struct):
    action: str = msgspec.field(name="Action")
    actor: _Actor = msgspec.field(name="Actor")
    time_ns: int = msgspec.field(name="timeNano")


class EngineMemory:
    """Listens from the first `listen` until `close`."""

    def __init__(self, node_id: str, calls: EngineCalls, engine: Engine) -> None:
        self._node_id, self._calls, self._engine = node_id, calls, engine
        self._events: dict[str, deque[ContainerEvent]] = {}
        self._outages: deque[tuple[int, int]] = deque(maxlen=64)
        self._is_there = False
        self._listening: asyncio.Task[None] | None = None
        self._decoder = msgspec.json.Decoder(_Event)

    def listen(self) -> None:
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="the engine's events")

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})

    def heard(self, job_id: str) -> Sequence[ContainerEvent]:
        return list(self._events.get(job_id, ()))

    def starts(self, job_id: str) -> int:
        """How often we heard that the job's container was started: a number that changes with each further start."""
        return sum(event.action == "start" for event in self._events.get(job_id, ()))

    def forget(self, job_id: str) -> None:
        self._events.pop(job_id, None)

    def fell_into_an_outage(self, time_ns: int) -> bool:
        """Whether the engine went down or came up around this moment of its clock."""
        return any(gone - _GOING_DOWN_NS <= time_ns <= back + _COMING_UP_NS for gone, back in self._outages)

    async def ask(
        self, job_id: str, container: str, until_us: int, *, past_death: bool = False
    ) -> Sequence[ContainerEvent]:
        """What the engine itself still knows of the job's container, until its death, unless it goes on past_death, and
        until that moment of its clock. Raises ExecutorUnavailable."""
        query = {"since": "0", "until": _stamp(until_us), "filters": _filters(f"{LABEL_JOB}={job_id}")}
        found: list[ContainerEvent] = []
        async with aclosing(self._read(query, _QUIET_SECONDS)) as events:
            async for event in events:
                if event is None:
                    break
                if container == event.actor.container:
                    found.append(_event(event))
                    if event.action == "die" and not past_death:
                        break
        return found

    async def of_run(
        self, job_id: str, container: str, finished_at: int, *, past_death: bool = False
    ) -> Sequence[ContainerEvent]:
        """What was heard, and what the engine still knows, of a container whose run is over. finished_at: Unix time
        in microseconds, by the engine's clock. past_death: also what it tells in the second after it, which takes as
        long. Raises ExecutorUnavailable."""
        asked = await self.ask(job_id, container, finished_at + _TOLD_AFTER_US, past_death=past_death)
        heard = [event for event in self.heard(job_id) if event.container == container]
        return merged(heard, asked)

    async def saw_end(self, job_id: str, container: str, finished_at: int) -> bool:
        """Whether the engine was there when that run ended, as far as anybody can tell: one that comes up tells of ends
        that it only found. Raises ExecutorUnavailable."""
        heard = [event for event in self.heard(job_id) if event.container == container]
        death = death_in(heard) or death_in(await self.of_run(job_id, container, finished_at))
        if death is None:
            return await self.reaches_back_to(finished_at)
        moments = (finished_at * 1_000, death.time_ns)
        silences = [gone for gone, back in self._outages if any(gone <= moment <= back for moment in moments)]
        return not silences or await self.reaches_back_to(min(silences) // 1_000)

    async def reaches_back_to(self, time_us: int) -> bool:
        """Whether the engine has run since that moment of its clock, or too much happened to tell."""
        count, oldest = 0, None
        async with aclosing(self._read({"since": "0"}, _QUIET_SECONDS)) as events:
            async for event in events:
                if event is None or count >= ENGINE_KEEPS:
                    break
                count, oldest = count + 1, oldest or event.time_ns
        return count >= ENGINE_KEEPS or (oldest is not None and oldest <= time_us * 1_000)

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (ExecutorUnavailable, NotFound) as error:
                logger.debug("the engine's events can't be heard now: %s", error)  # who asks it for something is told
            except Exception:  # the outermost loop of a task: nothing may end it silently
                logger.exception("the engine's events can't be heard now")
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _hear(self) -> None:
        query = {"since": "0", "filters": _filters(f"{LABEL_NODE}={self._node_id}")}
        try:
            async with aclosing(self._read(query, _QUIET_SECONDS, self._is_back)) as events:
                async for event in events:
                    if event is not None:
                        self._keep(event)
        finally:
            self._is_gone()

    def _is_back(self) -> None:
        if self._outages:
            self._outages[-1] = (self._outages[-1][0], time.time_ns())
        self._is_there = True

    def _is_gone(self) -> None:
        if self._is_there:
            self._outages.append((time.time_ns(), _STILL_AWAY))
        self._is_there = False

    def _keep(self, event: _Event) -> None:
        if event.actor.attributes.get(LABEL_PART):  # of a tool for a job, whose end tells nothing of the job's
            return
        kept = self._events.setdefault(event.actor.attributes.get(LABEL_JOB, ""), deque(maxlen=_OF_A_JOB))
        if (told := _event(event)) not in kept:
            kept.append(told)

    async def _read(
        self, query: dict[str, str], quiet_seconds: float, answered: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[_Event | None, None]:
        """Event by event; None each time that none came for a while. answered: called once the engine answers."""
        rest = b""
        version = await self._calls.version()
        async with (
            self._engine.open(version, "GET", "/events", query) as answer,
            aclosing(payloads(answer, quiet_seconds)) as chunks,
        ):
            answered()
            async for data in chunks:
                if not data:
                    yield None
                *whole, rest = (rest + data).split(b"\n")
                for line in filter(None, whole):
                    yield self._decoded(line)

    def _decoded(self, line: bytes) -> _Event:
        try:
            return self._decoder.decode(line)
        except UNREADABLE as error:
            raise ExecutorUnavailable(f"Docker tells an event that can't be read: {error}") from error


def merged(heard: Sequence[ContainerEvent], asked: Sequence[ContainerEvent]) -> list[ContainerEvent]:
    """Each once, those that were heard first."""
    return [*heard, *(event for event in asked if event not in heard)]


def _event(told: _Event) -> ContainerEvent:
    attributes = told.actor.attributes
    code = attributes.get("exitCode", "")
    sent = attributes.get("signal", "") if told.action == "kill" else ""
    return ContainerEvent(
        container=told.actor.container,
        action=told.action,
        time_ns=told.time_ns,
        signal=int(sent) if _NUMBER.fullmatch(sent) else 0,
        exit_code=int(code) if _NUMBER.fullmatch(code) else None,
    )


def _filters(label: str) -> str:
    return msgspec.json.encode({"type": ["container"], "label": [label], "event": _ACTIONS}).decode()


def _stamp(time_us: int) -> str:
    seconds, rest = divmod(time_us, 1_000_000)
    return f"{seconds}.{rest:06d}000"
