"""Builds and runs one hardened py-libp2p host: TCP, Noise and Yamux, nothing else."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from dms.adapters.p2p import identify
from dms.adapters.p2p.addresses import expand
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard
from dms.adapters.p2p.workarounds import (
    MAX_INBOUND,
    GuardedHost,
    HardenedSwarm,
    HardenedYamux,
    close_socket,
    install,
    kill,
)
from dms.errors import Unavailable

_MAX_OUTBOUND = 512
_MAX_CONNECTIONS_PER_PEER = 8  # two peers that dial each other at once have two; trimming one each cuts both
_CLOSE_SECONDS = 0.8


def build_host(identity: Identity, announce: Sequence[str], guard: InboundGuard) -> GuardedHost:
    """guard: whom it lets in, before any handshake."""
    install()
    identify.install()
    keys = create_new_key_pair(identity.seed())
    peer_id, store = ID.from_pubkey(keys.public_key), PeerStore()
    store.add_key_pair(peer_id, keys)
    noise = Noise(keys, noise_privkey=create_noise_key_pair().private_key)
    # The library's default set also takes plaintext and SECIO, with which a stranger speaks as any peer.
    upgrader = TransportUpgrader({TProtocol(NOISE): noise}, {TProtocol(YAMUX): HardenedYamux})
    swarm = HardenedSwarm(peer_id, store, upgrader, [TCP()], connection_config=_connections())
    swarm.guard = guard
    swarm.set_resource_manager(_limits())
    swarm._inbound_limiter.total_tokens = MAX_INBOUND  # noqa: SLF001 -- 250 otherwise, handshakes included
    swarm.auto_connector.maybe_connect = _never  # type: ignore[method-assign]  # dials all it ever heard of
    swarm.auto_connector.record_disconnect = _forget  # type: ignore[method-assign]  # which only that would take out
    host = GuardedHost(
        swarm,
        negotiate_timeout=10,
        addrs_factory=lambda bound: [Multiaddr(a) for a in expand([str(b) for b in bound], announce)],
        disable_identify_address_discovery=True,
    )
    host.count_streams()
    identify.serve_push(host)
    return host


async def _never() -> None:
    return


def _forget(peer_id: ID) -> None:
    """0.8.1 notes each peer that ever left."""


def _connections() -> ConnectionConfig:
    most = MAX_INBOUND + _MAX_OUTBOUND
    return ConnectionConfig(
        max_connections=most,
        high_watermark=most,
        low_watermark=0,
        min_connections=0,
        max_connections_per_peer=_MAX_CONNECTIONS_PER_PEER,
    )


def _limits() -> ResourceManager:
    """0.8.1 counts connections and streams, and does not always count back: not for a dial that is cancelled during the
    handshake, nor for a connection beyond those that a peer may have. In the end it would refuse all, so what it counts
    has no limit. Those below, and of streams, are taken from what is there."""
    return ResourceManager(
        limits=ResourceLimits(max_connections=sys.maxsize, max_streams=sys.maxsize),
        connection_limits=ConnectionLimits(
            max_pending_inbound=256,
            max_pending_outbound=64,
            max_established_inbound=MAX_INBOUND,
            max_established_outbound=_MAX_OUTBOUND,
            max_established_per_peer=_MAX_CONNECTIONS_PER_PEER,
        ),
        enable_metrics=False,
        enable_memory_limits=False,
        enable_graceful_degradation=False,
        enable_circuit_breaker=False,
    )


@asynccontextmanager
async def running(host: GuardedHost, listen: Sequence[str]) -> AsyncIterator[Sequence[str]]:
    """Answers the addresses that it is bound to. Raises Unavailable, naming one that can't be listened on:
    the library itself goes on without."""
    async with host.run([Multiaddr(address) for address in listen]):
        listeners = host.get_network().listeners
        for address in listen:
            if address not in listeners:
                raise Unavailable(f"Can't listen on {address}: the port is taken, or the address isn't ours.")
        try:
            yield [str(address) for address in host.get_transport_addrs()]
        finally:
            with trio.CancelScope(shield=True):
                await _hang_up(host)


async def _hang_up(host: GuardedHost) -> None:
    """Says goodbye to all at once, for a moment; then closes the sockets. Leaving run() alone closes none."""
    cast("HardenedSwarm", host.get_network()).leaving = True
    connections = host.get_network().get_connections()
    with trio.move_on_after(_CLOSE_SECONDS):
        async with trio.open_nursery() as nursery:
            for conn in connections:
                nursery.start_soon(conn.close)
    async with trio.open_nursery() as nursery:
        for conn in connections:
            close_socket(conn.muxed_conn)
            nursery.start_soon(kill, conn)


class Notifee(INotifee):
    """Only what we ask of a notifee: connections that come and go."""

    async def connected(self, network: INetwork, conn: INetConn) -> None: ...

    async def disconnected(self, network: INetwork, conn: INetConn) -> None: ...

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None: ...

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None: ...
