"""What py-libp2p 0.8.1 needs before a stranger may talk to it. Each has a test that fails without it.

Where the library can be extended we extend it; two functions of its modules have to be replaced (`install`).
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from typing import Any, ClassVar, cast

import libp2p.pubsub.pubsub as pubsub_module
import libp2p.stream_muxer.muxer_multistream as muxer_module
import libp2p.transport.tcp.tcp as tcp_module
import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream, ISecureConn
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.utils import read_exactly
from libp2p.metrics.swarm import SwarmEvent
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    FLAG_SYN,
    HEADER_SIZE,
    TYPE_DATA,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)
from multiaddr import Multiaddr

from dms.adapters.p2p.framing import LINE_ERRORS
from dms.adapters.p2p.gossip_bounds import GOSSIP_QUEUE, BoundedQueue
from dms.adapters.p2p.in_run import InRun
from dms.adapters.p2p.inbound import InboundGuard
from dms.application.deployments.deployment_feed import FEEDS_OF_A_PEER
from dms.domain.origin import is_loopback, origin_of
from dms.errors import DmsError, PeerUnreachable
from dms.socket_owner import end_of, owner_of

logger = logging.getLogger(__name__)

MAX_INBOUND = 1024  # handshakes and connections; the library's own rate limits come first
MAX_STREAMS_PER_PEER = FEEDS_OF_A_PEER + 32  # inbound; the rest is for requests and files
MAX_STREAMS = 20_000  # inbound, of all peers
MAX_RECEIVE_WINDOW = 1 << 20  # bytes that one unread stream may hold
MAX_WIDENED = 4 << 20  # bytes that all windows of a connection are wider than at first
MAX_UNREAD = 4 << 20  # bytes unread in the streams that one connection's peer opened
MAX_UNREAD_OF_ALL = 32 << 20  # of all connections; who holds less than its share is never ended for the others
UNREAD_SHARE = 64 << 10
READ_AFTER = 5.0  # seconds; two heartbeats are missed only after twice that
_STREAM_COST = 1024  # bytes that an empty stream counts for
_BODY_SECONDS = 60.0  # for the body of one muxer frame, as in the library
_PIECE = 64 << 10
_MOST_ANSWERS = 64 << 10  # bytes that wait to be written; then nothing more is read
WINDOW_PATIENCE = 120.0  # seconds that a writer waits for a reader
STUCK_AFTER = 10.0  # seconds that one muxer frame may take to enter the socket
_MUXER_FRAME = 65_519 - 12  # with its header, this fills one Noise message: one byte more costs a second one
_TCP_USER_TIMEOUT_MS = 15_000


class HardenedSwarm(Swarm):
    leaving = False
    """Says goodbye: who dials again at once must not be taken for somebody who has come back."""

    guard: InboundGuard

    async def _do_handle_inbound_connection(
        self,
        read_write_closer: ReadWriteCloser,
        maddr: Multiaddr,
        failure_event: SwarmEvent,
    ) -> None:
        """0.8.1 keeps an accepted connection's slot until the swarm ends, so the 251st inbound connection
        of a host's life is refused, and all after it. Here the slot lives as long as the connection."""
        raw = RawConnection(read_write_closer, False)
        origin = origin_of(_host_of(read_write_closer))
        if self.leaving or not self.guard.enter(origin):
            await raw.close()
            return
        try:
            try:
                muxed = await self.upgrade_inbound_raw_conn(raw, maddr)
            finally:
                self.guard.agreed(origin)
            await cast("Yamux", muxed).event_closed.wait()
        except (*LINE_ERRORS, trio.TooSlowError, ValueError) as error:
            logger.debug("inbound connection: %r", error)
        finally:
            self.guard.leave(origin)
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await raw.close()


def _host_of(line: ReadWriteCloser) -> str:
    """Of its other end; 0.8.1 tells none for IPv6. Empty when it is gone."""
    try:
        return str(cast("Any", line).stream.socket.getpeername()[0])
    except OSError:
        return ""


class GuardedHost(BasicHost):
    """0.8.1 lets an exception of any stream handler end the whole host, also of its own handlers, where a
    peer can cause one (a malformed pubsub RPC). And it never limits the inbound streams of one peer."""

    _live: Counter[str]

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        peer = str(net_stream.muxed_conn.peer_id)
        if self._live[peer] >= MAX_STREAMS_PER_PEER or self._live.total() >= MAX_STREAMS:
            logger.warning("too many streams are open, %d of peer %s; one more is refused", self._live[peer], peer)
            await _reset(net_stream)
            return
        self._live[peer] += 1
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception as error:  # noqa: BLE001 -- the outermost handler of whatever a peer sends
            logger.log(
                logging.DEBUG
                if isinstance(error, (*LINE_ERRORS, trio.TooSlowError, PeerUnreachable))
                else logging.WARNING,
                "stream %s of peer %s: %r",
                net_stream.get_protocol(),
                peer,
                error,
            )
            await _reset(net_stream)
        finally:
            self._live[peer] -= 1
            if not self._live[peer]:
                del self._live[peer]

    def count_streams(self) -> None:
        """Begins the count of live inbound streams; before the host runs."""
        self._live = Counter()


class _StreamEvents(dict[int, trio.Event]):
    """0.8.1 puts a fresh event back for a stream that ended while somebody read from it: three a job, for as long as
    the connection lasts. Here only streams that are there have one; who asks for another gets its KeyError, as ever."""

    def __init__(self, streams: Container[int]) -> None:
        super().__init__()
        self._streams = streams

    def __setitem__(self, stream_id: int, event: trio.Event) -> None:
        if stream_id in self._streams:
            super().__setitem__(stream_id, event)


class Pulse:
    """When a peer was last heard over one connection, and how far it is. Read from any thread.
    heard_at: of the monotonic clock, seconds; 0 for never. rtt: seconds, smoothed; 0 while it is not known."""

    def __init__(self) -> None:
        self.heard_at = self.rtt = 0.0

    def heard(self) -> None:
        self.heard_at = time.monotonic()

    def measured(self, rtt_seconds: float) -> None:
        self.heard()
        self.rtt = rtt_seconds if not self.rtt else 0.75 * self.rtt + 0.25 * rtt_seconds


class _Headers:
    """The line of a connection as its muxer sees it: `admit` is shown the header of each frame before the body comes,
    and what it raises ends the connection. Bodies are read past it."""

    def __init__(self, line: ISecureConn, admit: Callable[[int, int, int, int], Awaitable[None]]) -> None:
        self._line, self._admit = line, admit
        self._header = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    async def read(self, n: int) -> bytes:
        data = await self._line.read(n)
        self._header += data
        if len(self._header) == HEADER_SIZE:
            _, kind, flags, stream_id, length = struct.unpack(YAMUX_HEADER_FORMAT, self._header)
            self._header = b""
            await self._admit(kind, flags, stream_id, length)
        return data


class HardenedYamux(Yamux):
    """0.8.1 keeps whatever a peer sends beyond its window, and what nobody reads of a stream that was reset.
    Here the first byte beyond a window ends the connection, as the specification asks. More than MAX_UNREAD in the
    streams that the peer opened is not read from the line, and ends the connection where it stays: who serves a stream
    reads at once. Streams that we opened may wait for a slow disk of ours.

    0.8.1 also reads nothing more while it waits to answer a frame: two peers that send each other much at the same time
    both wait for the other to read, for good. Here the answers wait, and go out with what is written next."""

    _all: ClassVar[InRun[HardenedYamux]] = InRun("connections")

    def __init__(
        self,
        secured_conn: ISecureConn,
        peer_id: ID,
        is_initiator: bool | None = None,
        on_close: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(secured_conn, peer_id, is_initiator, on_close)
        self._line = secured_conn
        self.secured_conn = cast("ISecureConn", _Headers(secured_conn, self._admit))
        self._coming = 0  # bytes of the body that is being read, where it is kept
        self._wanted = True
        self._reader: trio.lowlevel.Task | None = None
        self._answers = bytearray()  # frames
        self._are_answers = trio.Event()
        self.stream_events = _StreamEvents(self.streams)
        self.pulse = Pulse()
        self._all.add(self)

    def unread(self) -> int:
        """Bytes of what the peer sent in streams that it opened."""
        theirs = [stream_id for stream_id, stream in self.streams.items() if not stream.is_initiator]
        waiting = sum(len(self.stream_buffers.get(stream_id, b"")) for stream_id in theirs)
        return waiting + len(theirs) * _STREAM_COST + self._coming

    async def _admit(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        """Raises MuxedStreamError for a frame that must not be read."""
        self.pulse.heard()
        if kind != TYPE_DATA:
            await trio.lowlevel.checkpoint()  # thousands of them come at once
            return
        if self._is_wanted(flags, stream_id):
            stream = self.streams.get(stream_id)
            if length > (DEFAULT_WINDOW_SIZE if stream is None else stream.recv_window):
                self._refuse("sent more than it was given room for")
            await self._wait_for_room(length)
        self._wanted = self._is_wanted(flags, stream_id)
        self._coming = length if self._wanted else 0

    def _is_wanted(self, flags: int, stream_id: int) -> bool:
        """Not for a stream that ended while this was on its way."""
        stream, opens = self.streams.get(stream_id), bool(flags & FLAG_SYN)
        return opens if stream is None else not (opens or stream.closed or stream.recv_closed)

    async def _wait_for_room(self, length: int) -> None:
        """Whoever serves a stream reads what is there, so there is room in a moment, unless somebody does not read."""
        deadline, pause = trio.current_time() + READ_AFTER, 0.002
        while (lack := self._lacks_room(length)) and trio.current_time() < deadline:
            await trio.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        if lack is self:
            self._refuse("sent more than is read of it")
        if lack is not None:
            logger.warning("peer %s sent more than is read of it; its connection ends", lack.peer_id)
            close_socket(lack)

    def _lacks_room(self, length: int) -> HardenedYamux | None:
        """The connection that has to end if this lasts."""
        unread = self.unread() + length
        if unread > MAX_UNREAD:
            return self
        if unread <= UNREAD_SHARE or sum(one.unread() for one in self._all) + length <= MAX_UNREAD_OF_ALL:
            return None
        return max(self._all, key=HardenedYamux.unread)

    def _refuse(self, why: str) -> None:
        logger.warning("peer %s %s; its connection ends", self.peer_id, why)
        raise MuxedStreamError(f"peer {self.peer_id} {why}")

    async def _read_data_body(self, length: int) -> bytes:
        """0.8.1 does not tell when anything came from a peer, and keeps the body of a frame that nobody wants."""
        try:
            with trio.fail_after(_BODY_SECONDS):
                body = await read_exactly(self._line, length) if self._wanted else await self._skip(length)
        finally:
            self._coming = 0
        self.pulse.heard()
        return body

    async def _skip(self, length: int) -> bytes:
        while length:
            length -= len(await read_exactly(self._line, min(length, _PIECE)))
        return b""

    def _finalize_stream_locked(self, stream: YamuxStream, *, fully_closed: bool) -> None:
        """What came before a reset can't be read any more, except behind an orderly end."""
        if stream.reset_received and not stream.recv_closed:
            self._forget(stream)
        super()._finalize_stream_locked(stream, fully_closed=fully_closed)

    async def _finalize_stream(self, stream: YamuxStream, *, fully_closed: bool) -> None:
        """Of our own close and reset: after a reset nobody reads on."""
        if stream.reset_received:
            self._forget(stream)
        await super()._finalize_stream(stream, fully_closed=fully_closed)

    def _forget(self, stream: YamuxStream) -> None:
        if stream.stream_id in self.stream_buffers:
            self.stream_buffers[stream.stream_id].clear()

    async def _handle_incoming_with_ready_signal(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        self._reader = trio.lowlevel.current_task()
        cast("trio.Nursery", self._nursery).start_soon(self._write_answers)  # `start` made it
        await super()._handle_incoming_with_ready_signal(task_status=task_status)

    async def _write_answers(self) -> None:
        """As soon as the line is free."""
        with suppress(*LINE_ERRORS):  # the reader hears of it as well
            while True:
                await self._are_answers.wait()
                self._are_answers = trio.Event()
                await self._write_frame(b"")

    def may_widen(self, more: int) -> bool:
        """Whether a window of a stream may grow by so many bytes."""
        widened = sum(stream.target_recv_window - DEFAULT_WINDOW_SIZE for stream in self.streams.values())
        return widened + more <= MAX_WIDENED

    async def _write_frame(self, data: bytes) -> None:
        """0.8.1 lets a cancelled write leave half a frame on the line, which garbles every stream of the
        connection. Here a frame is written whole, or the connection is given up."""
        if trio.lowlevel.current_task() is self._reader and len(self._answers) < _MOST_ANSWERS:
            self._answers += data
            self._are_answers.set()
            return
        await self._write_lock.acquire()
        try:
            with trio.CancelScope(shield=True), trio.move_on_after(STUCK_AFTER) as stuck:
                answers, self._answers = self._answers, bytearray()
                if answers or data:  # an empty message would be the connection's end
                    await self.secured_conn.write(bytes(answers + data))
        finally:
            self._write_lock.release()
        if stuck.cancelled_caught:
            close_socket(self)
            raise ConnectionClosedError("the connection is stuck", transport="tcp")
        await trio.lowlevel.checkpoint()


async def _patient_write(stream: YamuxStream, data: bytes) -> None:
    """0.8.1 resets a stream whose reader has kept its window closed for 5 s: a slow disk is enough."""
    sent = 0
    while sent < len(data):
        size = await _reserve(stream, len(data) - sent)
        header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream.stream_id, size)
        await cast("HardenedYamux", stream.conn)._write_frame(header + data[sent : sent + size])  # noqa: SLF001
        sent += size


async def _reserve(stream: YamuxStream, wanted: int) -> int:
    """Takes up to `wanted` bytes of the peer's window, once there is some. No await between look and take."""
    deadline, pause = trio.current_time() + WINDOW_PATIENCE, 0.002
    while True:
        if stream.send_closed or stream.closed:
            raise MuxedStreamError("the stream is closed for sending")
        size = min(stream.send_window, _MUXER_FRAME, wanted)
        if size > 0:
            stream.send_window -= size
            return size
        if trio.current_time() > deadline:
            raise MuxedStreamError(f"the peer has read nothing for {WINDOW_PATIENCE:.0f} s")
        await trio.sleep(pause)
        pause = min(pause * 1.5, 0.05)


_autotune = YamuxStream._apply_autotune_epoch  # noqa: SLF001 -- the original, kept for the case below the cap


def _capped_autotune(stream: YamuxStream, buffered: int) -> int:
    """0.8.1 lets the window of each stream grow to 16 MiB, all of which a slow reader may have to hold.
    (MAX_WINDOW_SIZE must stay: it is also the largest frame accepted, and js-libp2p sends such.)"""
    window = stream.target_recv_window
    grows = window * 2 <= MAX_RECEIVE_WINDOW and cast("HardenedYamux", stream.conn).may_widen(window)
    return _autotune(stream, buffered) if grows else 0


def _exclusive(sock: trio.socket.SocketType) -> None:
    """0.8.1 listens with SO_REUSEPORT, so that two processes share one port, and connections at random."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def install() -> None:
    """Replaces what can't be extended. Safe to repeat."""
    muxer_module.Yamux = HardenedYamux  # type: ignore[attr-defined]  # it makes this class, whatever it is configured with
    tcp_module._set_reuse_flags = _exclusive  # noqa: SLF001
    YamuxStream.write = _patient_write  # type: ignore[method-assign, assignment]
    YamuxStream._apply_autotune_epoch = _capped_autotune  # type: ignore[method-assign, assignment]  # noqa: SLF001
    pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = GOSSIP_QUEUE  # 0.8.1 drops gossip silently once 32 messages wait
    pubsub_module.RpcQueue = BoundedQueue  # type: ignore[attr-defined, assignment]
    route_logs()


def route_logs() -> None:
    """0.8.1 takes its logger out of the program's logging (propagate=False) when it is imported."""
    library = logging.getLogger("libp2p")
    library.handlers.clear()
    library.setLevel(logging.WARNING)
    library.propagate = True
    # These speak at ERROR of what any peer can cause: a failed dial, a line that breaks.
    for name in ("network.swarm", "stream_muxer.yamux.yamux", "transport.tcp.tcp"):
        logging.getLogger(f"libp2p.{name}").setLevel(logging.CRITICAL)


def tune_socket(conn: INetConn) -> None:
    """0.8.1 never notices a vanished peer. With these the kernel does, within 15 s, idle or sending."""
    stream = _socket_of(conn.muxed_conn)
    if stream is None:
        return
    options = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    )
    try:
        for level, option, value in options:
            stream.setsockopt(level, option, value)
    except OSError as error:  # already gone
        logger.debug("socket options: %r", error)


def owner(conn: INetConn) -> int | None:
    """The user of this machine whose process has the connection's other end; None for one of elsewhere."""
    stream = _socket_of(conn.muxed_conn)
    if stream is None:
        return None
    try:
        peer, own = end_of(stream.socket.getpeername()), end_of(stream.socket.getsockname())
    except OSError:  # already gone
        return None
    if peer is None or own is None or not (peer.address == own.address or is_loopback(peer.address)):
        return None  # within a machine both ends have the same address: that which was dialled
    return owner_of(peer, own)


async def kill(conn: INetConn) -> None:
    """Ends a connection that may be stuck. The socket first: 0.8.1's close() waits for a stuck writer's lock."""
    close_socket(conn.muxed_conn)
    with trio.CancelScope(shield=True), trio.move_on_after(2):
        await conn.close()


def close_socket(muxed: IMuxedConn) -> None:
    stream = _socket_of(muxed)
    if stream is not None:
        stream.socket.close()


def _socket_of(muxed: IMuxedConn) -> trio.SocketStream | None:
    """The TCP socket under Yamux, Noise and the library's wrappers, which have no accessor for it."""
    layer = getattr(muxed, "secured_conn", None)
    while layer is not None and not isinstance(layer, trio.SocketStream):
        layer = next(
            (
                inner
                for name in ("conn", "read_writer", "read_write_closer", "stream")
                if (inner := getattr(layer, name, None)) is not None
            ),
            None,
        )
    return layer


async def _reset(stream: INetStream) -> None:
    with trio.CancelScope(shield=True), trio.move_on_after(1):
        try:
            await stream.reset()
        except (*LINE_ERRORS, DmsError) as error:
            logger.debug("reset: %r", error)
