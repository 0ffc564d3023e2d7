"""What a peer may say of itself, and what is remembered of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import cast

import pytest
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.identity import update
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr

from dms.adapters.p2p.framing import LINE_ERRORS, encode_frame
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from tests.fixtures.local_peers import LOCAL
from tests.integration.p2p.stranger import attack
from tests.integration.p2p.waiting import until

PUSH, IDENTIFY = TProtocol("/ipfs/id/push/1.0.0"), TProtocol("/ipfs/id/1.0.0")
PLAIN = Multiaddr("/ip4/192.0.2.1/tcp/1")


@pytest.fixture
async def served() -> AsyncIterator[Libp2pNetwork]:
    network = Libp2pNetwork(Identity.generate(), LOCAL)
    await network.start()
    yield network
    await network.close()


def boast(size: int) -> bytes:
    """A frame of so many bytes of addresses, protocols and a record, among them one plain one of each."""
    said = Identify(listen_addrs=[PLAIN.to_bytes()], protocols=["/plain/1"])
    long = "x" * (size // 4)
    said.listen_addrs.append(PLAIN.to_bytes() * (size // 32))
    said.protocols.append(long)
    said.protocols.extend(f"/p/{number}" for number in range(size // 100))
    said.signedPeerRecord = long.encode()
    return encode_frame(said.SerializeToString())


def remembered(network: Libp2pNetwork, peer: ID) -> tuple[list[Multiaddr], list[str]]:
    data = cast("PeerStore", network._parts()[1]._host.get_peerstore()).peer_data_map.get(peer)
    return (list(data.addrs), list(data.protocols)) if data is not None else ([], [])


async def until_plain(network: Libp2pNetwork, peer: ID) -> None:
    await until(lambda: "/plain/1" in remembered(network, peer)[1])
    addresses, protocols = remembered(network, peer)
    assert addresses == [PLAIN]
    assert len(protocols) <= 256
    assert max(map(len, protocols)) <= 256


async def test_of_what_is_pushed_little_is_remembered(served: Libp2pNetwork) -> None:
    before = update._safe_parse_multiaddr_cached.cache_info().currsize

    async def act(host: IHost, target: ID) -> None:
        stream = await host.new_stream(target, [PUSH])
        await stream.write(boast(50_000))
        await until_plain(served, host.get_id())
        large = await host.new_stream(target, [PUSH])
        with suppress(*LINE_ERRORS):
            await large.write(boast(800_000))
            assert not await large.read(1)
        assert remembered(served, host.get_id())[0] == [PLAIN]

    await attack(served, act)
    assert update._safe_parse_multiaddr_cached.cache_info().currsize <= before + 16  # those of the two hosts among them


async def test_of_what_is_answered_little_is_remembered(served: Libp2pNetwork) -> None:
    async def answer(stream: INetStream) -> None:
        await stream.write(boast(800_000))
        await stream.close()

    async def act(host: IHost, _target: ID) -> None:
        await until_plain(served, host.get_id())

    await attack(served, act, lambda host: host.set_stream_handler(IDENTIFY, answer))
