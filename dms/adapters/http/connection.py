"""One connection: Sanic's protocol with deadlines that a slow sender can't stretch, and `Socket`, the one
class that speaks websocket frames with the transport directly.

Sanic's own `ws.send` takes a lock and waits for the reader, so one reader that stops would hold up whoever
sends to many; and its `ws.recv` costs two tasks a message. Here a frame that was encoded once is handed to
any number of transports without awaiting, and each of them has a bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from sanic import Request
from sanic.http import Stage
from sanic.server.protocols.websocket_protocol import WebSocketProtocol
from sanic.server.websockets.impl import WebsocketImplProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State

MAX_UNSENT_BYTES = 1_000_000  # of one client; beyond it the client is told to come back later
MAX_MESSAGES_A_MINUTE = 100
CLOSE_SECONDS = 10.0  # a peer that does not answer our close is cut then
PING = Frame(Opcode.PING, b"dms").serialize(mask=False)
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def text_frame(payload: bytes) -> bytes:
    """The bytes of one unmasked text frame, ready for any transport."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class Socket:
    """An open websocket. Whole messages in, frames out; nothing here waits but `receive`, `drained`, `lost`."""

    def __init__(self, ws: WebsocketImplProtocol, connection: Connection) -> None:
        self._protocol, self._connection, self._ws = ws.ws_proto, connection, ws
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[str | bytes] = deque()
        self._arrived = asyncio.Event()
        self._lost = asyncio.Event()
        self._parts: list[bytes] = []
        self._is_text = True
        self._window: deque[float] = deque()
        self._cut: asyncio.TimerHandle | None = None
        self.heard_at = self._loop.time()

    # --- out ---------------------------------------------------------------------------------------
    @property
    def open(self) -> bool:
        transport = self._connection.transport
        return self._protocol.state is State.OPEN and transport is not None and not transport.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        transport = self._connection.transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def write(self, frames: bytes) -> bool:
        """Hands frames to the transport; False when the socket is no longer open."""
        transport = self._connection.transport
        if self._protocol.state is not State.OPEN or transport is None or transport.is_closing():
            return False
        transport.write(frames)
        return True

    async def drained(self) -> None:
        """Returns once the client has taken most of what was written, or is gone."""
        await self._connection.drained()

    def ping(self) -> None:
        self.write(PING)

    # --- in ----------------------------------------------------------------------------------------
    async def receive(self) -> str | bytes | None:
        """The next whole message (bytes: a binary one); None once the socket is closed or closing."""
        while not self._inbox:
            if not self.open:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    def feed(self, data: bytes) -> None:
        """What arrived. Pings are answered, broken frames close the socket."""
        self.heard_at = self._loop.time()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in _DATA and self._protocol.state is State.OPEN:
                self._take(event)
        self._flush()
        if self._protocol.state is not State.OPEN:
            self._ending()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        message, self._parts = b"".join(self._parts), []
        if self._too_many():
            self.close(1008, f"more than {MAX_MESSAGES_A_MINUTE} messages a minute")
            return
        try:
            self._inbox.append(message.decode() if self._is_text else message)
        except UnicodeDecodeError:
            self.close(1007, "a text message must be UTF-8")
            return
        self._arrived.set()

    def _too_many(self) -> bool:
        now = self._loop.time()
        while self._window and self._window[0] < now - 60:
            self._window.popleft()
        self._window.append(now)
        return len(self._window) > MAX_MESSAGES_A_MINUTE

    # --- the end -----------------------------------------------------------------------------------
    def close(self, code: int, reason: str) -> None:
        """Begins the closing handshake; again is fine. reason: at most 123 bytes are sent."""
        if self._protocol.state is State.OPEN:
            with suppress(ConnectionClosed):
                self._protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
            self._flush()
        self._ending()

    def _ending(self) -> None:
        self._arrived.set()
        if self._cut is None and not self._lost.is_set():
            self._cut = self._loop.call_later(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Cuts the connection without a word."""
        if self._connection.transport is not None:
            self._connection.transport.abort()

    async def lost(self) -> None:
        """Returns once the connection is gone."""
        await self._lost.wait()

    def connection_lost(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
        self._arrived.set()
        self._lost.set()

    def _flush(self) -> None:
        """Writes what the protocol itself has to say: pongs and closes. Empty bytes mean: no more from us."""
        transport = self._connection.transport
        for data in self._protocol.data_to_send():
            if transport is None or transport.is_closing():
                return
            if data:
                transport.write(data)
            else:
                transport.close()


class Connection(WebSocketProtocol):
    """Sanic builds one a TCP connection. socket: set once it was upgraded."""

    __slots__ = ("socket",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.socket: Socket | None = None

    async def websocket_handshake(
        self, request: Request, subprotocols: Sequence[str] | None = None
    ) -> WebsocketImplProtocol:
        """Asks the endpoint first: a refusal is a plain HTTP answer. It also picks the subprotocol, since the
        library refuses clients that offer none."""
        spoken = await request.app.ctx.admit_websocket(request)
        ws = cast("WebsocketImplProtocol", await super().websocket_handshake(request, spoken))
        self.socket = Socket(ws, self)
        if self.recv_buffer:  # sent right behind the handshake
            early = bytes(self.recv_buffer)
            self.recv_buffer.clear()
            self.socket.feed(early)
        return ws

    def data_received(self, data: bytes) -> None:
        if self.socket is not None:
            self.socket.feed(data)
            return
        http = getattr(self, "_http", None)  # Sanic sets it only when the connection's task runs
        # A head, or the rest of a body that was answered before it was read.
        due = http is not None and (http.stage is Stage.REQUEST or (http.stage is Stage.IDLE and http.request_body))
        since = self._time
        super().data_received(data)  # type: ignore[no-untyped-call]
        if due:
            self._time = since  # the deadline runs from the first byte: drops that come one by one don't move it

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)  # type: ignore[no-untyped-call]
        if self.socket is not None:
            self.socket.connection_lost()

    async def drained(self) -> None:
        await self._can_write.wait()
