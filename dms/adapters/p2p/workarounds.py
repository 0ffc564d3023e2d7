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
from typing import Any, cast

import libp2p.pubsub.pubsub as pubsub_module
import libp2p.pubsub.rpc_queue as rpc_queue_module
import libp2p.stream_muxer.muxer_multistream as muxer_module
import libp2p.transport.tcp.tcp as tcp_module
import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream, ISecureConn
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.metrics.swarm import SwarmEvent
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.pubsub.mcache import MessageCache, default_msg_id_fn
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YAMUX_HEADER_FORMAT, Yamux, YamuxStream
from multiaddr import Multiaddr

from dms.adapters.p2p.framing import LINE_ERRORS
from dms.adapters.p2p.inbound import InboundGuard
from dms.domain.origin import origin_of
from dms.errors import DmsError, PeerUnreachable

logger = logging.getLogger(__name__)

MAX_INBOUND = 1024  # handshakes and connections; the library's own rate limits come first
MAX_STREAMS_PER_PEER = 128  # inbound: 64 job feeds, and as many requests beside them
MAX_RECEIVE_WINDOW = 1 << 20  # bytes that one unread stream may hold
WINDOW_PATIENCE = 120.0  # seconds that a writer waits for a reader
STUCK_AFTER = 10.0  # seconds that one muxer frame may take to enter the socket
GOSSIP_QUEUE = 1024
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
        origin = origin_of((raw.get_remote_address() or ("", 0))[0])
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


class GuardedHost(BasicHost):
    """0.8.1 lets an exception of any stream handler end the whole host, also of its own handlers, where a
    peer can cause one (a malformed pubsub RPC). And it never limits the inbound streams of one peer."""

    _live: Counter[str]

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        peer = str(net_stream.muxed_conn.peer_id)
        if self._live[peer] >= MAX_STREAMS_PER_PEER:
            logger.warning("peer %s has too many streams open; one more is refused", peer)
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


class GuardedPubsub(Pubsub):
    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """0.8.1 runs this as a task of the pubsub service, which any exception ends; the message is a peer's."""
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001 -- the outermost handler of whatever a peer sends
            logger.warning("a gossip message from peer %s was dropped: %r", msg_forwarder, error)


class BoundedMessageCache(MessageCache):
    """What gossip keeps for peers that ask for it again. 0.8.1 keeps all that came between a few heartbeats, and these
    wait for slow peers: in a flood it grew without an end. Here the oldest give way."""

    def __init__(self, plain: MessageCache, most_bytes: int) -> None:
        super().__init__(plain.window_size, plain.history_size)
        self._most_bytes, self._bytes = most_bytes, 0

    def put(self, msg: rpc_pb2.Message) -> None:
        if default_msg_id_fn(msg) in self.msgs:
            return
        super().put(msg)
        self._bytes += msg.ByteSize()  # of all of it: names of topics may be long where the data is short
        while self._bytes > self._most_bytes:
            oldest = next(entries for entries in reversed(self.history) if entries)
            self._bytes -= self.msgs.pop(oldest.pop(0).mid).ByteSize()

    def shift(self) -> None:
        self._bytes -= sum(self.msgs[entry.mid].ByteSize() for entry in self.history[-1])
        super().shift()


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


class HardenedYamux(Yamux):
    def __init__(
        self,
        secured_conn: ISecureConn,
        peer_id: ID,
        is_initiator: bool | None = None,
        on_close: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(secured_conn, peer_id, is_initiator, on_close)
        self.stream_events = _StreamEvents(self.streams)
        self.pulse = Pulse()

    async def _read_data_body(self, length: int) -> bytes:
        """0.8.1 does not tell when anything came from a peer."""
        body = await super()._read_data_body(length)
        self.pulse.heard()
        return body

    async def _write_frame(self, data: bytes) -> None:
        """0.8.1 lets a cancelled write leave half a frame on the line, which garbles every stream of the
        connection. Here a frame is written whole, or the connection is given up."""
        await self._write_lock.acquire()
        try:
            with trio.CancelScope(shield=True), trio.move_on_after(STUCK_AFTER) as stuck:
                await self.secured_conn.write(data)
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
    return _autotune(stream, buffered) if stream.target_recv_window * 2 <= MAX_RECEIVE_WINDOW else 0


def _exclusive(sock: trio.socket.SocketType) -> None:
    """0.8.1 listens with SO_REUSEPORT, so that two processes share one port, and connections at random."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def install() -> None:
    """Replaces what can't be extended. Safe to repeat."""
    muxer_module.Yamux = HardenedYamux  # type: ignore[attr-defined]  # it makes this class, whatever it is configured with
    tcp_module._set_reuse_flags = _exclusive  # noqa: SLF001
    YamuxStream.write = _patient_write  # type: ignore[method-assign, assignment]
    YamuxStream._apply_autotune_epoch = _capped_autotune  # type: ignore[method-assign, assignment]  # noqa: SLF001
    # 0.8.1 drops gossip silently once 32 messages wait, in the subscription and in each peer's queue.
    pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = GOSSIP_QUEUE
    queue = cast("Any", rpc_queue_module.RpcQueue.__init__)
    queue.__defaults__ = tuple(
        GOSSIP_QUEUE if value == rpc_queue_module.OutBoundQueueSize else value for value in queue.__defaults__
    )
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
