"""The websocket `/api/v1/live/ws`: all that a page needs over one connection, of which a browser allows few.

A client names each of its subscriptions, and every frame of one carries that name. A client that lost its connection
subscribes again, behind the last position or line that it has, and misses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from sanic import Request

from dms.adapters.http.access import Access, access_of, caller_of
from dms.adapters.http.connection import MAX_UNSENT_BYTES, Socket, text_frame
from dms.adapters.http.events import SEND_SECONDS, checked_types, seen_by
from dms.adapters.http.live_events import EventFeed, Subscription
from dms.adapters.http.live_messages import (
    Asked,
    Beat,
    CaughtUpFrame,
    ErrorFrame,
    EventFrame,
    GrowingFrame,
    LinesFrame,
    Name,
    SubscribeEvents,
    SubscribeOutput,
    SubscribeUsage,
    Unsubscribe,
    UnsubscribedFrame,
    UsageFrame,
)
from dms.adapters.http.live_output import OutputFeeds
from dms.adapters.http.problems import Problem, body_of, problem_of
from dms.adapters.http.replies import checked_job_id
from dms.adapters.http.routes import Api, WebSocket
from dms.adapters.http.sockets import Endpoint
from dms.adapters.http.strict_json import convert, load
from dms.adapters.http.usage import usage_news
from dms.application.loops import Loop, Loops
from dms.application.records.event_stream import EventFilter
from dms.application.tasks import background, cancelled
from dms.domain.access import Caller, Need
from dms.errors import Conflict, DmsError, Forbidden, InvalidInput, NotFound, Unavailable

log = logging.getLogger(__name__)

MOST_SUBSCRIPTIONS = 64  # of one socket
BEAT_SECONDS = 5.0
TOO_SLOW = "too slow; subscribe again behind the last positions that you have"

_encode = msgspec.json.Encoder().encode


class Live:
    """What all sockets share. Implements the endpoint."""

    def __init__(self, api: Api, loops: Loops) -> None:
        self.api, self._loops = api, loops
        self.events = EventFeed(api.services.log, api.services.network.peer_id, loops)
        self.outputs = OutputFeeds(api.services.outputs, self.events)
        self.sessions: set[LiveSession] = set()
        self._beating: Loop | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(WEBSOCKETS, self._admit, self._begin)

    def _begin(self, request: Request, socket: Socket, _asked: None) -> LiveSession:
        return LiveSession(self, socket, caller_of(request), access_of(request))

    async def _admit(self, _request: Request) -> tuple[None, None]:
        return None, None

    def start(self) -> None:
        self.events.start()
        self._beating = self._loops.every(BEAT_SECONDS, "live heartbeats", self._beat, at_once=False)

    async def close(self) -> None:
        if self._beating is not None:
            await self._beating.close()
        await self.outputs.close()
        await self.events.close()

    @property
    def beat(self) -> bytes:
        time = datetime.fromtimestamp(self.api.services.now() / 1_000_000, UTC).isoformat(timespec="milliseconds")
        return text_frame(_encode(Beat(position=self.events.position, time=time)))

    async def _beat(self) -> None:
        beat = self.beat
        for session in tuple(self.sessions):
            session.write(beat)


class LiveSession:
    """One socket's subscriptions. Implements the port of the feeds: Reader."""

    def __init__(self, live: Live, socket: Socket, caller: Caller, access: Access) -> None:
        self._live, self._socket, self._caller, self._access = live, socket, caller, access
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        self.write(self._live.beat)
        self._live.sessions.add(self)
        try:
            while (message := await self._socket.receive()) is not None:
                await self._take(message)
        finally:
            self._live.sessions.discard(self)
            for task in list(self._running.values()):
                await cancelled(task)
        await self._socket.lost()

    # --- out ---------------------------------------------------------------------------------------
    def write(self, frames: bytes) -> None:
        """At once. A reader that does not keep up is let go, so that memory is bounded; it may come back."""
        if self._socket.write(frames) and self._socket.unsent > MAX_UNSENT_BYTES:
            self._socket.close(1013, TOO_SLOW)

    async def send(self, frames: bytes) -> None:
        """At the client's pace; the subscriptions take turns, so that little waits in memory."""
        async with self._turn:
            self._socket.write(frames)
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._socket.drained()
            except TimeoutError:
                self._socket.close(1013, TOO_SLOW)

    def _tell(self, frame: Struct) -> None:
        self.write(text_frame(_encode(frame)))

    def _tell_problem(self, name: str, problem: dict[str, Any]) -> None:
        self._tell(ErrorFrame(id=name or UNSET, error=msgspec.convert(problem, Problem)))

    # --- in ----------------------------------------------------------------------------------------
    async def _take(self, message: str | bytes) -> None:
        name = ""
        try:
            if isinstance(message, bytes):
                raise InvalidInput("binary messages are not understood; send JSON text")
            tree = load(message.encode())
            name = _name_in(tree)
            if isinstance(tree, dict) and "unsubscribe" in tree:
                await self._unsubscribe(convert(tree, Unsubscribe).id)
            else:
                asked: Asked = convert(tree, Asked)  # type: ignore[arg-type]  # a union of types
                self._subscribe(asked)
        except DmsError as error:
            self._tell_problem(name, problem_of(error))

    async def _unsubscribe(self, name: str) -> None:
        task = self._running.pop(name, None)
        if task is not None:
            await cancelled(task)
        self._tell(UnsubscribedFrame(id=name, unsubscribed=True))

    def _subscribe(self, asked: Asked) -> None:
        if asked.id in self._running:
            raise Conflict(
                f"there is a subscription {asked.id} already, and it goes on; end it first, or use another id"
            )
        if len(self._running) >= MOST_SUBSCRIPTIONS:
            raise Unavailable(f"this connection has {MOST_SUBSCRIPTIONS} subscriptions already; end one first")
        self._running[asked.id] = background(self._guarded(asked), f"live subscription {asked.id}")

    async def _guarded(self, asked: Asked) -> None:
        """The outermost loop of a subscription: its end is told, whatever the reason."""
        problem: dict[str, Any] | None = None
        try:
            await self._serve(asked)
        except DmsError as error:
            problem = problem_of(error)
        except Exception:
            log.exception("a live subscription failed unexpectedly", extra={"action": "subscription_failed"})
            problem = body_of(500, "internal error; it is in the log of the DMS")
        self._running.pop(asked.id, None)
        if problem is not None:
            self._tell_problem(asked.id, problem)

    async def _serve(self, asked: Asked) -> None:
        match asked:
            case SubscribeEvents():
                wanted = seen_by(self._caller, self._access, _wanted(asked))
                after = self._live.events.position if asked.after is None else asked.after
                subscription = Subscription(asked.id, wanted, after, self, personal=asked.personal)
                await self._live.events.follow(subscription)
            case SubscribeOutput():
                await self._output(asked)
            case SubscribeUsage():
                await self._usage(asked)

    async def _output(self, asked: SubscribeOutput) -> None:
        services, job_id = self._live.api.services, checked_job_id(asked.job_id)
        self._access.check_job(self._caller, job_id)
        if not services.outputs.is_known(job_id):
            raise NotFound(f"no job {job_id} here")
        newest = await services.outputs.last(job_id)
        after = newest if asked.after is None else asked.after
        if after > newest:
            what = f"after is {after}, but the newest line is {newest}"
            raise InvalidInput(what, [("/after", f"at most {newest}")])
        await self._live.outputs.follow(asked.id, job_id, after, self.send, progress=asked.progress)

    async def _usage(self, asked: SubscribeUsage) -> None:
        if not self._caller.meets(Need.SEE_PROVIDER):
            raise Forbidden(f"a token of the role {self._caller.role} may not {Need.SEE_PROVIDER}")
        async with aclosing(self._live.api.services.compute_provider.usage.follow()) as batches:
            async for batch in batches:
                frames = [_encode(UsageFrame(id=asked.id, usage=usage_news(used))) for used in batch]
                await self.send(b"".join(map(text_frame, frames)))


def _name_in(tree: Any) -> str:
    """For the answer to what can't be taken; empty where it has none that can be used."""
    try:
        return msgspec.convert(tree.get("id") if isinstance(tree, dict) else None, Name)
    except msgspec.ValidationError:
        return ""


def _wanted(asked: SubscribeEvents) -> EventFilter:
    """Raises InvalidInput, NotFound."""
    return EventFilter(
        types=checked_types(asked.types, "/types"),
        job_id=checked_job_id(asked.job_id) if asked.job_id else "",
        provider=asked.provider,
    )


WEBSOCKETS = (
    WebSocket(
        path="/live/ws", summary="All that a page needs: events, output and usage over one websocket.",
        tags=("events",),
        description="Subscriptions come and go as JSON messages, 64 at most at a time; each frame of one carries its "
        "`id`. After a cut, subscribe again behind the last `position` or `seq` that came. A reader that is too slow "
        "is closed with 1013 and may come back likewise.",
        incoming={
            "subscribe-events": SubscribeEvents, "subscribe-output": SubscribeOutput,
            "subscribe-usage": SubscribeUsage, "unsubscribe": Unsubscribe,
        },
        outgoing={
            "event": EventFrame, "caught-up": CaughtUpFrame, "lines": LinesFrame, "growing": GrowingFrame,
            "usage": UsageFrame, "unsubscribed": UnsubscribedFrame, "error": ErrorFrame, "beat": Beat,
        },
        stream=True,
        needs=Need.SEE_JOBS,
    ),
)  # fmt: skip
