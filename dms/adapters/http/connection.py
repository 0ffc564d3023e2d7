"""One connection: Sanic's protocol with deadlines that a slow sender can't stretch, and `Socket`, the one
class that speaks websocket frames with the transport directly.

Sanic's own `ws.send` takes a lock and waits for the reader, so one reader that stops would hold up whoever
sends to many; and its `ws.recv` costs two tasks a message. Here a frame that was encoded once is handed to
any number of transports without awaiting, and each of them has a bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, cast

from sanic import Request
from sanic.exceptions import BadRequest
from sanic.http import Stage
from sanic.server.protocols.websocket_protocol import WebSocketProtocol
from sanic.server.websockets.impl import WebsocketImplProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from dms.adapters.http.connection_counts import ConnectionCounts
from dms.adapters.http.http1 import Http1
from dms.adapters.http.problems import Refused
from dms.domain.origin import is_loopback, origin_of
from dms.socket_owner import end_of, owner_of

MAX_UNSENT_BYTES = 1_000_000  # of one client; beyond it the client is told to come back later
MAX_UNHEARD_BYTES = 1_000_000  # of messages that came faster than their session takes them
MAX_MESSAGES_A_MINUTE = 100
MAX_CONTROLS_A_MINUTE = 300  # pings, pongs
MAX_FRAMES_A_MESSAGE = 256
MAX_DROPPED_BYTES = 1_000_000  # of a client that was told to stop
BYTES_A_STEP = 1024  # are read before the limits are looked at: some 170 of the smallest frames
CLOSE_SECONDS = 10.0  # a peer that does not answer our close is cut then
STUCK_SECONDS = 60.0  # an answer of which nothing is taken for so long is given up
PING = Frame(Opcode.PING, b"dms").serialize(mask=False)
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def text_frame(payload: bytes) -> bytes:
    """The bytes of one unmasked text frame, ready for any transport."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class Allowance:
    """So many a minute, all of them at once if need be, and then at that pace."""

    def __init__(self, a_minute: int, now: float) -> None:
        self._most, self._left, self._since = float(a_minute), float(a_minute), now

    def take(self, now: float) -> bool:
        """False when it is used up."""
        self._left = min(self._most, self._left + (now - self._since) * self._most / 60)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def next_in_seconds(self) -> float:
        """From the last `take` on, until one more is there."""
        return max(0.0, (1 - self._left) * 60 / self._most)


class Socket:
    """An open websocket. Whole messages in, frames out; nothing here waits but `receive`, `drained`, `lost`.

    All that a client sends is counted, for a frame costs us more than it: messages, the frames that a message
    comes in, frames that are none of a message. Who sends too much is told so and heard no more.
    """

    def __init__(self, ws: WebsocketImplProtocol, connection: Connection) -> None:
        self._protocol, self._connection, self._ws = ws.ws_proto, connection, ws
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[str | bytes] = deque()
        self._unheard = 0  # bytes in it
        self._arrived = asyncio.Event()
        self._lost = asyncio.Event()
        self._parts: list[bytes] = []
        self._is_text = True
        now = self._loop.time()
        self._messages, self._controls = Allowance(MAX_MESSAGES_A_MINUTE, now), Allowance(MAX_CONTROLS_A_MINUTE, now)
        self._deaf, self._dropped = False, 0
        self._cut: asyncio.TimerHandle | None = None
        self.heard_at = now

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
        while not self._heard():
            if not self.open:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._inbox.popleft()
        self._unheard -= len(message)
        return message

    def _heard(self) -> bool:
        """Whether a message waits. What came of one who may no more is not taken, however early it came."""
        if self._inbox and not self._connection.in_force():
            self._connection.cut_off()
        return bool(self._inbox)

    def feed(self, data: bytes) -> None:
        """What arrived. Pings are answered; broken frames, and too many of them, close the socket."""
        now = self.heard_at = self._loop.time()
        for begin in range(0, len(data), BYTES_A_STEP):
            if self._deaf:
                break
            self._protocol.receive_data(data[begin : begin + BYTES_A_STEP])
            for event in self._protocol.events_received():
                if isinstance(event, Frame) and not self._deaf:
                    self._take(event, now)
            self._flush()
        if self._deaf:
            self._drop(len(data))
        if self._protocol.state is not State.OPEN:
            self._ending()

    def _take(self, frame: Frame, now: float) -> None:
        if frame.opcode not in _DATA:
            if frame.opcode is not Opcode.CLOSE and not self._controls.take(now):
                self._refuse(1008, f"more than {MAX_CONTROLS_A_MINUTE} pings and pongs a minute")
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if len(self._parts) > MAX_FRAMES_A_MESSAGE:
            self._refuse(1008, f"a message in more than {MAX_FRAMES_A_MESSAGE} frames")
        elif frame.fin:
            message, self._parts = b"".join(self._parts), []
            self._on_message(message, now)

    def _on_message(self, message: bytes, now: float) -> None:
        if not self._messages.take(now):
            self._refuse(1008, f"more than {MAX_MESSAGES_A_MINUTE} messages a minute")
            return
        try:
            told = message.decode() if self._is_text else message
        except UnicodeDecodeError:
            self._refuse(1007, "a text message must be UTF-8")
            return
        if self._protocol.state is not State.OPEN:
            return
        self._inbox.append(told)
        self._unheard += len(told)
        self._arrived.set()
        if self._unheard > MAX_UNHEARD_BYTES:
            self._refuse(1013, "messages come faster than they can be dealt with")

    # --- the end -----------------------------------------------------------------------------------
    def _refuse(self, code: int, reason: str) -> None:
        """Closes, and reads no more of what comes: it would cost what the limit is to spare."""
        self.close(code, reason)
        self._deaf = True
        self._parts = []
        self._end_of_ours()

    def _end_of_ours(self) -> None:
        """No more from us. The connection itself stays a moment: were it closed with bytes in it that nobody has
        read, the kernel would reset it, and what we said last would be lost."""
        transport = self._connection.transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():  # TLS has no such end
            transport.write_eof()

    def _drop(self, size: int) -> None:
        """What comes behind our last word, up to a bound; then the client is left to wait for the cut."""
        self._dropped += size
        transport = self._connection.transport
        if self._dropped > MAX_DROPPED_BYTES and transport is not None and not transport.is_closing():
            transport.pause_reading()

    def eof(self) -> None:
        """The client sends no more."""
        if not self._deaf:
            self._protocol.receive_eof()
            self._flush()

    def close(self, code: int, reason: str) -> None:
        """Begins the closing handshake; again is fine. reason: at most 123 bytes are sent."""
        if self._protocol.state is State.OPEN:
            with suppress(ConnectionClosed):
                self._protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
            self._flush()
        self._ending()

    def cut_off(self, reason: str) -> None:
        """Closes it, and forgets what came and was not taken."""
        self._inbox.clear()
        self._unheard = 0
        self.close(1008, reason)

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
            if transport is None or transport.is_closing() or self._deaf:
                return
            if data:
                transport.write(data)
            else:  # both have said goodbye, or the client broke the protocol
                self._deaf = True
                self._end_of_ours()
        if self.open and self.unsent > MAX_UNSENT_BYTES:
            self._refuse(1013, "too slow: what is sent to you is not read")


class Connection(WebSocketProtocol):
    """Sanic builds one a TCP connection. socket: set once it was upgraded. half_closed: the client sends no more,
    which is no reason not to answer what it has sent. peer_uid: the user of this machine who made the other end's
    socket; None when it is of elsewhere, or that can't be told. origin: what its address counts as; empty for none.
    in_force: whether by what its newest request was let in is so still: a token, a session."""

    __slots__ = (
        "_counted_for", "_endless", "_held", "_refused", "_stuck", "half_closed", "in_force", "origin", "peer_uid",
        "socket",
    )  # fmt: skip
    HTTP_CLASS = Http1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.socket: Socket | None = None
        self.half_closed = self._endless = self._refused = False
        self._stuck: asyncio.TimerHandle | None = None
        self._counted_for: str | None = None  # a party of the counts
        self._held = ExitStack()  # what a websocket takes up
        self.peer_uid: int | None = None
        self.origin = ""
        self.in_force: Callable[[], bool] = lambda: True

    def connection_made(self, transport: Any) -> None:
        """The user is looked up at once: of a connection that has ended nothing can be told, and its ports may become
        somebody else's."""
        peer, own = (end_of(transport.get_extra_info(name)) for name in ("peername", "sockname"))
        if peer is not None and own is not None:
            self.origin = origin_of(peer.address)
            self.peer_uid = owner_of(peer, own) if is_loopback(peer.address) else None
        self._counted_for = self._counts.enter(self.origin, self.peer_uid)
        if self._counted_for is None:
            self._refused = True
            transport.abort()
            return
        super().connection_made(transport)  # type: ignore[no-untyped-call]

    @property
    def party(self) -> str:
        """Whom it counts for where nothing else is known of who calls: the user of this machine, or the origin."""
        return self.origin if self.peer_uid is None else f"user {self.peer_uid}"

    @property
    def _counts(self) -> ConnectionCounts:
        return cast("ConnectionCounts", self.app.ctx.connection_counts)

    async def websocket_handshake(
        self, request: Request, subprotocols: Sequence[str] | None = None
    ) -> WebsocketImplProtocol:
        """Asks the endpoint first: a refusal is a plain HTTP answer. It also picks the subprotocol, since the
        library refuses clients that offer none."""
        with ExitStack() as held:
            spoken = await request.app.ctx.admit_websocket(request, held)
            ws = cast("WebsocketImplProtocol", await super().websocket_handshake(request, spoken))
            self._held = held.pop_all()
        self.socket = Socket(ws, self)
        if self.recv_buffer:  # sent right behind the handshake
            early = bytes(self.recv_buffer)
            self.recv_buffer.clear()
            self.socket.feed(early)
        if self.half_closed:
            self.socket.eof()
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()  # a full buffer had stopped it
        return ws

    # --- in ----------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        if self.socket is not None:
            self.socket.feed(data)
            return
        http = self._request
        # A head, or the rest of a body that was answered before it was read.
        due = http is not None and (http.stage is Stage.REQUEST or (http.stage is Stage.IDLE and http.request_body))
        since = self._time
        super().data_received(data)  # type: ignore[no-untyped-call]
        if due:
            self._time = since  # the deadline runs from the first byte: drops that come one by one don't move it

    async def receive_more(self) -> None:
        """Raises BadRequest when no more will come of what has begun."""
        if not self.half_closed:
            await super().receive_more()  # type: ignore[no-untyped-call]
            if not self.half_closed or self.recv_buffer:
                return
        http = self._request
        if http is None or (http.stage is Stage.IDLE and not http.request_body):
            raise asyncio.CancelledError  # between two requests: the end of the connection's task
        raise BadRequest("the connection was closed for sending before the request was whole")

    def eof_received(self) -> bool:
        """True: answers still go out."""
        if self.socket is not None:
            self.socket.eof()
            return False
        if self._task is None or self._endless:
            return False
        self.half_closed = True
        self._data_received.set()
        return True

    def follow(self) -> None:
        """The answer has no end but the client's: one that is gone, and one that only sends no more, look alike.
        Raises Refused when it is so already."""
        self._endless = True
        if self.half_closed:
            raise Refused(400, "what is followed ends with the connection: keep it open for sending as well")

    def cut_off(self) -> None:
        """Its token or session is over. One that waits for its next request is left: that is looked at anew."""
        if self.socket is not None:
            self.socket.cut_off("the token or the session is over: revoked, logged out or expired")
        elif self._request is not None and self._request.stage is not Stage.IDLE:
            self.abort()  # type: ignore[no-untyped-call]

    @property
    def _request(self) -> Http1 | None:
        return getattr(self, "_http", None)  # Sanic sets it only when the connection's task runs

    # --- out ---------------------------------------------------------------------------------------
    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[no-untyped-call]
        if self.socket is None:
            self._watch_for(self._unsent)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[no-untyped-call]
        if self._stuck is not None:
            self._stuck.cancel()

    @property
    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def _watch_for(self, before: int) -> None:
        self._stuck = self.loop.call_later(STUCK_SECONDS, self._cut_if_stuck, before)

    def _cut_if_stuck(self, before: int) -> None:
        if self._unsent >= before:
            self.abort()  # type: ignore[no-untyped-call]
        else:
            self._watch_for(self._unsent)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._refused:
            return
        super().connection_lost(exc)  # type: ignore[no-untyped-call]
        self._held.close()
        if self._counted_for is not None:
            self._counts.leave(self._counted_for)
        if self.socket is not None:
            self.socket.connection_lost()

    async def drained(self) -> None:
        await self._can_write.wait()


def connection_of(request: Request) -> Connection:
    found = request.transport.get_protocol()
    if not isinstance(found, Connection):
        raise TypeError("the server was not built with our Connection")
    return found
