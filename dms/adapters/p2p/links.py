"""Connections and outbound streams, on the trio side: dial on demand, one dial a peer at a time."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import cast

import trio
from libp2p.abc import INetConn
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from dms.adapters.p2p.addresses import AddressBook
from dms.adapters.p2p.fence import fenced
from dms.adapters.p2p.framing import Wire, cut_as_unreachable
from dms.adapters.p2p.identity import public_key
from dms.adapters.p2p.names import by_number
from dms.adapters.p2p.workarounds import GuardedHost, kill
from dms.errors import DmsError, PeerUnreachable

logger = logging.getLogger(__name__)

DIAL_SECONDS = 15.0  # some six round trips, of which each may take two seconds
_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, section 5: the pause before the next address is tried too
_NEGOTIATE_SECONDS = 10.0
_STREAMS_PER_PEER = 200  # yamux lets 256 be open and makes the next one wait for ever
_DIALS = 32
_PEER_ID = re.compile(r"\b(?:12D3KooW[1-9A-HJ-NP-Za-km-z]{44}|Qm[1-9A-HJ-NP-Za-km-z]{44})\b")
_NOTICE_SECONDS = 0.5  # after a stream failed: time for the end of its connection to be noticed


class Links:
    """All calls are trio's. The library's own connect() is not used: it waits 250 ms, refuses a peer for 60 s
    after one failed dial, and has no deadline."""

    def __init__(self, host: GuardedHost, book: AddressBook) -> None:
        self._swarm = cast("Swarm", host.get_network())
        self._own_id = str(host.get_id())
        self._book = book
        self._dialling: dict[str, trio.Lock] = {}
        self._dials = trio.CapacityLimiter(_DIALS)
        self._slots: dict[str, trio.Semaphore] = {}
        self._nursery: trio.Nursery | None = None
        self.met_another: Callable[[str, str, str], object] = lambda *_: None

    def begin(self, nursery: trio.Nursery) -> None:
        """nursery: what a stream still needs once its work is done goes on there."""
        self._nursery = nursery

    async def done(self, wire: Wire) -> None:
        """Ends a stream whose answer is there: its goodbye is a round trip that nobody waits for."""
        if self._nursery is None:
            await wire.finish()
        else:
            self._nursery.start_soon(fenced, wire.peer_id, wire.finish)

    def live(self, peer_id: str) -> SwarmConn | None:
        """The newest connection that looks alive."""
        conns = self._swarm.get_connections(ID.from_string(peer_id))
        return next((c for c in reversed(conns) if _looks_alive(c)), None)  # type: ignore[return-value]

    async def connect(self, peer_id: str) -> SwarmConn:
        """Raises PeerUnreachable."""
        lock = self._dialling.setdefault(peer_id, trio.Lock())
        try:
            async with lock:
                conn = self.live(peer_id)
                return conn if conn is not None else await self._dial(peer_id)
        finally:
            if lock.statistics().tasks_waiting == 0 and not lock.locked():
                self._dialling.pop(peer_id, None)

    async def _dial(self, peer_id: str) -> SwarmConn:
        if peer_id == self._own_id:
            raise PeerUnreachable("A node does not dial itself.")
        addresses = self._book.of(peer_id)
        if not addresses:
            raise PeerUnreachable(f"No address of peer {peer_id} is known.")
        won: list[SwarmConn] = []
        errors: list[BaseException] = []
        async with self._dials:
            with trio.move_on_after(DIAL_SECONDS) as race:
                async with trio.open_nursery() as nursery:
                    for address in addresses:
                        failed = trio.Event()
                        nursery.start_soon(self._try, address, peer_id, won, errors, failed, race)
                        with trio.move_on_after(_NEXT_ADDRESS_SECONDS):
                            await failed.wait()
        for spare in won[1:]:
            await kill(spare)
        if won:
            return won[0]
        reason = f": {_why(errors[-1])}" if errors else f" within {DIAL_SECONDS:.0f} s"
        raise PeerUnreachable(f"Peer {peer_id} can't be dialled at {', '.join(addresses)}{reason}.")

    async def _try(
        self,
        address: str,
        peer_id: str,
        won: list[SwarmConn],
        errors: list[BaseException],
        failed: trio.Event,
        race: trio.CancelScope,
    ) -> None:
        try:
            numbers = await by_number(address)
        except PeerUnreachable as error:
            errors.append(error)
            numbers = []
        for number in numbers:
            try:
                conn = await self._swarm._dial_addr_single_attempt(  # noqa: SLF001 -- see the class
                    Multiaddr(number), ID.from_string(peer_id)
                )
            except Exception as error:  # noqa: BLE001 -- whatever a stranger's bytes cause below us (see fence.py)
                logger.debug("dial %s: %r", address, error)
                errors.append(error)
                if met := _another(error, peer_id):
                    self.met_another(peer_id, address, met)
            else:
                won.append(cast("SwarmConn", conn))
                race.cancel()
                return
        failed.set()

    @asynccontextmanager
    async def opened(self, peer_id: str, protocol: str) -> AsyncIterator[Wire]:
        """A stream on which the protocol is agreed; reset on the way out, if it wasn't finished.
        A connection that turns out dead is replaced by a fresh one, once.
        Raises PeerUnreachable, ProtocolRefused."""
        if public_key(peer_id) is None:
            raise PeerUnreachable(f"{peer_id!r} is not the id of a peer.")
        slots = self._slots.setdefault(peer_id, trio.Semaphore(_STREAMS_PER_PEER))
        async with slots:
            try:
                wire = await self._open(peer_id, protocol)
                try:
                    yield wire
                except BaseException:
                    await wire.reset()
                    raise
            finally:
                if slots.value == _STREAMS_PER_PEER - 1 and not slots.statistics().tasks_waiting:
                    self._slots.pop(peer_id, None)

    async def _open(self, peer_id: str, protocol: str) -> Wire:
        held = self.live(peer_id)
        if held is not None:
            try:
                return await open_on(held, protocol, _NEGOTIATE_SECONDS)
            except PeerUnreachable as error:
                with trio.move_on_after(_NOTICE_SECONDS):
                    await cast("Yamux", held.muxed_conn).event_closed.wait()
                if _looks_alive(held):
                    raise  # it was this stream alone; other streams of the connection go on
                logger.debug("connection to %s was stale: %s", peer_id, error)
        return await open_on(await self.connect(peer_id), protocol, _NEGOTIATE_SECONDS)


async def open_on(conn: SwarmConn, protocol: str, timeout_seconds: float) -> Wire:
    """Raises PeerUnreachable, ProtocolRefused."""
    peer_id = str(conn.muxed_conn.peer_id)
    with cut_as_unreachable(peer_id), trio.fail_after(timeout_seconds):
        wire = Wire(await conn.new_stream())
    try:
        await wire.choose(protocol, timeout_seconds)
    except BaseException:
        await wire.reset()
        raise
    return wire


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _another(error: BaseException, expected: str) -> str:
    """The id that the dialled peer proved to have, where it was another; the library tells it only in words."""
    for inner in _chain(error):
        for found in _PEER_ID.findall(str(inner)):
            if found != expected:
                return str(found)
    return ""


def _why(error: BaseException) -> str:
    """The innermost words: those of the library around them name no cause."""
    if isinstance(error, DmsError):
        return str(error).rstrip(".")
    return next((str(inner) for inner in reversed([*_chain(error)]) if str(inner)), repr(error))


def _looks_alive(conn: INetConn) -> bool:
    muxed = cast("Yamux", conn.muxed_conn)
    return not conn.is_closed and not muxed.is_closed and not muxed.event_shutting_down.is_set()
