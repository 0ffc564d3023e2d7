"""One run of the peer-to-peer node, on the trio side: the host and everything that keeps it useful."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

import trio
from libp2p.abc import INetConn, INetStream, INetwork
from libp2p.custom_types import TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.peerstore import PeerStoreError

from dms.adapters.p2p.addresses import AddressBook, texts_of
from dms.adapters.p2p.discovery import Discovery
from dms.adapters.p2p.exchange import Client
from dms.adapters.p2p.fence import fenced
from dms.adapters.p2p.gossip import Deliver, Gossip
from dms.adapters.p2p.host import Notifee, build_host, running
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard
from dms.adapters.p2p.links import Links
from dms.adapters.p2p.liveness import PING, ping_over, watch
from dms.adapters.p2p.names import keep_looking_up
from dms.adapters.p2p.workarounds import HardenedYamux, Pulse, kill, owner, tune_socket
from dms.application.ports.peers import Heard

logger = logging.getLogger(__name__)

StreamServer = Callable[[INetStream], Awaitable[None]]
PeerSeen = Callable[[str, bool, Sequence[str], int | None], None]
_IDENTIFY_SECONDS = 1.0
_MOST_ADDRESSES = 64


class Node:
    """Made in trio. `seen(peer_id, connected, observed addresses, user of this machine)` hears of each peer's first
    connection and of the end of its last."""

    def __init__(
        self,
        identity: Identity,
        announce: Sequence[str],
        book: AddressBook,
        discovery: Discovery,
        seen: PeerSeen,
        heartbeat: tuple[float, float],
        guard: InboundGuard,
    ) -> None:
        self._host = build_host(identity, announce, guard)
        self._book, self._discovery, self._seen, self._heartbeat = book, discovery, seen, heartbeat
        self._up: set[str] = set()
        self._pulses: dict[str, tuple[Pulse, ...]] = {}  # of a peer's connections; the tuples are replaced as a whole
        self._stop = trio.Event()
        self._nursery: trio.Nursery
        self.links = Links(self._host, book)
        self.links.met_another = discovery.met_another
        self.client = Client(self.links)
        self.gossip = Gossip(self._host)
        self.bound: Sequence[str] = ()

    async def run(
        self,
        listen: Sequence[str],
        servers: Mapping[str, StreamServer],
        topics: Mapping[str, Deliver],
        started: Callable[[Node], None],
    ) -> None:
        """Until `stop`. Raises Unavailable when an address can't be listened on."""
        for protocol, server in servers.items():
            self.serve(protocol, server)
        self._host.get_network().register_notifee(_Watcher(self))
        async with trio.open_nursery() as self._nursery, running(self._host, listen) as self.bound:
            self.links.begin(self._nursery)
            async with self.gossip.running(), trio.open_nursery() as helpers:
                for topic, deliver in topics.items():
                    helpers.start_soon(self.gossip.subscribe, topic, deliver)
                for entry in self._discovery.names:
                    helpers.start_soon(keep_looking_up, entry, self._discovery.found)
                helpers.start_soon(self._discovery.run, self.links)
                started(self)
                await self._stop.wait()
                helpers.cancel_scope.cancel()
            self._nursery.cancel_scope.cancel()

    def stop(self) -> None:
        self._stop.set()

    def serve(self, protocol: str, server: StreamServer) -> None:
        self._host.set_stream_handler(TProtocol(protocol), server)

    def subscribe(self, topic: str, deliver: Deliver) -> None:
        self._nursery.start_soon(self.gossip.subscribe, topic, deliver)

    async def ping(self, peer_id: str, timeout_seconds: float) -> float:
        async with self.links.opened(peer_id, PING) as wire:
            seconds = await ping_over(wire, timeout_seconds)
            await self.links.done(wire)
        return seconds

    def heard(self, peer_id: str) -> Heard | None:
        """From any thread."""
        pulse = max(self._pulses.get(peer_id, ()), key=lambda pulse: pulse.heard_at, default=None)
        if pulse is None or not pulse.heard_at:
            return None
        return Heard(time.monotonic() - pulse.heard_at, pulse.rtt)

    def connected(self, conn: SwarmConn) -> None:
        peer_id = str(conn.muxed_conn.peer_id)
        tune_socket(conn)
        self._pulses[peer_id] = (*self._pulses.get(peer_id, ()), cast("HardenedYamux", conn.muxed_conn).pulse)
        self._nursery.start_soon(fenced, peer_id, self._watch, conn)
        self._nursery.start_soon(fenced, peer_id, self._learn_addresses, conn)
        self._discovery.connected(peer_id)
        if peer_id not in self._up:
            self._up.add(peer_id)
            self._seen(peer_id, True, texts_of(conn.get_transport_addresses()), owner(conn))

    def disconnected(self, conn: SwarmConn) -> None:
        peer_id = str(conn.muxed_conn.peer_id)
        ended = cast("HardenedYamux", conn.muxed_conn).pulse
        left = tuple(pulse for pulse in self._pulses.pop(peer_id, ()) if pulse is not ended)
        if left:
            self._pulses[peer_id] = left
        if peer_id in self._up and self.links.live(peer_id) is None:
            self._up.discard(peer_id)
            self._discovery.disconnected(peer_id)
            self._seen(peer_id, False, (), None)

    async def _watch(self, conn: SwarmConn) -> None:
        try:
            await watch(conn, *self._heartbeat)
        except Exception:
            await kill(conn)  # nobody would notice its death any more
            raise

    async def _learn_addresses(self, conn: SwarmConn) -> None:
        """What the peer says of itself (identify, which the library runs by itself once connected)."""
        with trio.move_on_after(_IDENTIFY_SECONDS):
            await conn.event_closed.wait()
        try:
            addresses = self._host.get_peerstore().addrs(conn.muxed_conn.peer_id)
        except PeerStoreError:
            return
        self._book.add(str(conn.muxed_conn.peer_id), texts_of(addresses[:_MOST_ADDRESSES]))


class _Watcher(Notifee):
    def __init__(self, node: Node) -> None:
        self._node = node

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        self._node.connected(cast("SwarmConn", conn))

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        self._node.disconnected(cast("SwarmConn", conn))
