"""Two nodes on one machine find each other, with nothing configured but different ports."""

from __future__ import annotations

import asyncio

from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.config import P2p
from tests.integration.p2p.waiting import wait_until


async def test_nodes_on_one_machine_find_each_other() -> None:
    nodes = [Libp2pNetwork(Identity.generate(), P2p(listen_address=("/ip4/127.0.0.1/tcp/0",))) for _ in range(2)]
    first, second = nodes
    for node in nodes:
        await node.start()
    await wait_until(lambda: second.peer_id in {peer.peer_id for peer in first.peers()}, 120)
    await wait_until(lambda: first.peer_id in {peer.peer_id for peer in second.peers()}, 120)
    async with asyncio.timeout(60):
        await asyncio.gather(*(node.close() for node in nodes))
