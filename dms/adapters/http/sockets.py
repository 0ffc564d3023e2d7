"""All websockets of the server: who is let in, pings, the goodbye. What is said on each is its endpoint's matter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

from sanic import Request, Sanic
from sanic.server.websockets.impl import WebsocketImplProtocol

from dms.adapters.http.access import access_of
from dms.adapters.http.connection import Socket, connection_of
from dms.adapters.http.problems import Refused
from dms.adapters.http.routes import WebSocket
from dms.adapters.http.streams import Kind, Streams
from dms.application.loops import Loop, Loops
from dms.errors import Unavailable

PING_SECONDS = 20.0
SILENT_SECONDS = 65.0  # three pings unanswered: the client is dead


class Session(Protocol):
    """One open socket's conversation."""

    async def run(self) -> None:
        """From the handshake until the socket is lost."""


class Endpoint(NamedTuple):
    """described: its addresses, and what each needs. admit: before the upgrade, what the client asks for, and the
    subprotocol to speak; raises DmsError, which is the answer. begin: the session of a socket that was let in, with
    what `admit` answered."""

    described: tuple[WebSocket, ...]
    admit: Callable[[Request], Awaitable[tuple[Any, Sequence[str] | None]]]
    begin: Callable[[Request, Socket, Any], Session]


class Sockets:
    def __init__(
        self,
        not_serving: Callable[[], str | None],
        endpoints: Sequence[Endpoint],
        streams: Streams,
        loops: Loops,
    ) -> None:
        """not_serving: why nobody can be served yet, or None."""
        self._not_serving, self._streams, self._loops = not_serving, streams, loops
        self._routes = [(endpoint, socket) for endpoint in endpoints for socket in endpoint.described]
        self._open: set[Socket] = set()
        self._sweeping: Loop | None = None

    def add_to(self, app: Sanic[Any, Any]) -> None:
        app.ctx.admit_websocket = self.admit
        for number, (_, socket) in enumerate(self._routes):  # the router knows one path in several spellings
            app.add_websocket_route(
                self.serve,
                socket.address,
                name=f"websocket-{number}",
                ctx_number=number,
                error_format="json",
            )

    def start(self) -> None:
        self._sweeping = self._loops.every(PING_SECONDS, "websocket pings", self._sweep, at_once=False)

    async def close(self, timeout_seconds: float) -> None:
        """Says goodbye to all; whoever has not answered in time is cut."""
        if self._sweeping is not None:
            await self._sweeping.close()
        sockets = list(self._open)
        for socket in sockets:
            socket.close(1001, "the DMS is stopping")
        waits = [asyncio.create_task(socket.lost()) for socket in sockets]
        if waits:
            _, late = await asyncio.wait(waits, timeout=timeout_seconds)
            for task in late:
                task.cancel()
        for socket in sockets:
            socket.abort()

    def __len__(self) -> int:
        return len(self._open)

    async def admit(self, request: Request, held: ExitStack) -> Sequence[str] | None:
        """Before the upgrade; the subprotocol to speak. held: for as long as the socket is there. Raises DmsError."""
        if request.headers.get("upgrade", "").casefold() != "websocket":
            raise Refused(426, "this address speaks websocket", {"upgrade": "websocket", "connection": "upgrade"})
        endpoint, described = self._routed(request)
        await access_of(request).admit(request, described.needs)
        reason = self._not_serving()
        if reason is not None:
            raise Unavailable(f"the DMS can't serve yet: {reason}")
        kinds = (Kind.SOCKET, Kind.STREAM) if described.stream else (Kind.SOCKET,)
        held.enter_context(self._streams.one(request, *kinds))
        request.ctx.asked, spoken = await endpoint.admit(request)
        return spoken

    async def serve(self, request: Request, _ws: WebsocketImplProtocol) -> None:
        """The socket's whole life."""
        socket = connection_of(request).socket
        if socket is None:
            raise TypeError("only what was upgraded comes here")
        session = self._routed(request)[0].begin(request, socket, request.ctx.asked)
        self._open.add(socket)
        try:
            await session.run()
        finally:
            self._open.discard(socket)

    def _routed(self, request: Request) -> tuple[Endpoint, WebSocket]:
        if request.route is None:
            raise TypeError("only what was routed comes here")
        number: int = request.route.ctx.number
        return self._routes[number]

    async def _sweep(self) -> None:
        """One loop pings them all, so that dead clients don't stay, and a socket costs no task for it."""
        now = asyncio.get_running_loop().time()
        for count, socket in enumerate(list(self._open), 1):
            if now - socket.heard_at > SILENT_SECONDS:
                socket.abort()
            else:
                socket.ping()
            if count % 200 == 0:
                await asyncio.sleep(0)
