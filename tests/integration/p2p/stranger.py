"""A stranger's real host, with which a test does to a network what no client would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import trio
from libp2p.abc import IHost
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from dms.adapters.p2p.host import build_host, running
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard
from dms.adapters.p2p.network import Libp2pNetwork


@asynccontextmanager
async def connected(
    network: Libp2pNetwork, prepare: Callable[[IHost], object] = lambda _host: None
) -> AsyncIterator[tuple[IHost, ID]]:
    """In trio: a stranger's host, and the network's peer id. prepare: before anybody is dialled."""
    target = ID.from_string(network.peer_id)
    host = build_host(Identity.generate(), (), InboundGuard())
    prepare(host)
    async with running(host, []):
        with trio.fail_after(120):
            await cast("Swarm", host.get_network())._dial_addr_single_attempt(
                Multiaddr(network.listen_addresses[0].partition("/p2p/")[0]), target
            )
            yield host, target


async def attack(
    network: Libp2pNetwork,
    act: Callable[[IHost, ID], Awaitable[None]],
    prepare: Callable[[IHost], object] = lambda _host: None,
) -> None:
    """Runs act(a stranger's host, the network's peer id), connected, in a trio of its own."""

    async def run() -> None:
        async with connected(network, prepare) as (host, target):
            await act(host, target)

    await asyncio.to_thread(trio.run, run)
