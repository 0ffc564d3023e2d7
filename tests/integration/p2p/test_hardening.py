"""What py-libp2p 0.8.1 gets wrong by default, tried from outside: each test fails without its workaround."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from dms.adapters.p2p import network as network_module
from dms.adapters.p2p import workarounds
from dms.adapters.p2p.framing import encode_frame
from dms.adapters.p2p.host import build_host
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard
from dms.adapters.p2p.network import Libp2pNetwork
from dms.config import P2p
from dms.errors import ConfigError, PeerUnreachable, Unavailable
from tests.integration.p2p.stranger import attack
from tests.integration.p2p.waiting import wait_until

ECHO = "/test/echo/1"


async def echo(_peer_id: str, body: bytes) -> bytes:
    return body


def make(listen: str = "/ip4/127.0.0.1/tcp/0", announce: tuple[str, ...] = ()) -> Libp2pNetwork:
    settings = P2p(listen_address=(listen,), announce_address=announce, mdns=False)
    network = Libp2pNetwork(Identity.generate(), settings)
    network.serve_request(ECHO, echo)
    return network


@pytest.fixture
async def served() -> AsyncIterator[Libp2pNetwork]:
    network = make()
    network.serve_gossip("/test/gossip", lambda _peer, _body: None)
    await network.start()
    yield network
    await network.close()


async def test_a_plaintext_dialler_is_refused(served: Libp2pNetwork) -> None:
    async def dial() -> bool:
        keys = create_new_key_pair()
        own, store = ID.from_pubkey(keys.public_key), PeerStore()
        store.add_key_pair(own, keys)
        plain = InsecureTransport(keys, peerstore=store)
        upgrader = TransportUpgrader({TProtocol(PLAINTEXT_PROTOCOL_ID): plain}, {TProtocol(YAMUX): Yamux})
        swarm = Swarm(own, store, upgrader, [TCP()])
        async with background_trio_service(swarm):
            address = Multiaddr(served.listen_addresses[0].partition("/p2p/")[0])
            try:
                with trio.fail_after(120):
                    await swarm._dial_addr_single_attempt(address, ID.from_string(served.peer_id))
            except SwarmException as error:
                return "upgrade security" in str(error)
        return False

    assert await asyncio.to_thread(trio.run, dial)
    assert not served.peers()


@pytest.mark.parametrize("protocol", [PLAINTEXT_PROTOCOL_ID, "/secio/1.0.0", "/tls/1.0.0"])
async def test_nothing_but_noise_is_spoken(served: Libp2pNetwork, protocol: str) -> None:
    """Whatever a dialler asks for. Source: multistream-select 1.0.0."""
    _, _, host, _, port, *_ = served.listen_addresses[0].split("/")
    reader, writer = await asyncio.open_connection(host, int(port))
    for line in ("/multistream/1.0.0", protocol):
        writer.write(bytes([len(line) + 1]) + line.encode() + b"\n")
    async with asyncio.timeout(120):
        assert await reader.readuntil(b"na\n") == b"\x13/multistream/1.0.0\n\x03na\n"
        writer.write(b"\x07/noise\n")
        assert await reader.readuntil(b"\n") == b"\x07/noise\n"
    writer.close()


async def test_garbage_on_every_protocol_is_survived(served: Libp2pNetwork) -> None:
    protocols = [ECHO, "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/meshsub/1.2.0", "/meshsub/1.0.0"]
    garbage = [b"\x05\xff\xff\xff\xff\xff", b"\xff" * 40, b"\x00", b"x" * 5000, b"\xff\xff\xff\xff\x0f" + b"a" * 9]

    async def act(host: IHost, target: ID) -> None:
        for protocol in protocols:
            for data in garbage:
                stream: INetStream = await host.new_stream(target, [TProtocol(protocol)])
                await stream.write(data)
                await stream.close()

    await attack(served, act)
    friend = make()
    await friend.start()
    friend.add_addresses(served.peer_id, served.listen_addresses)
    assert await friend.request(served.peer_id, ECHO, b"1", 30) == b"1"
    assert not served._thread or not served._thread.ended.done()
    await friend.close()


async def test_gossip_with_a_key_that_is_none_is_survived(served: Libp2pNetwork) -> None:
    async def act(host: IHost, target: ID) -> None:
        stream = await host.new_stream(target, [TProtocol("/meshsub/1.1.0")])
        for key in (b"garbage", b"\x08\x01\x12\x20short", b"\x08\x63\x12\x01x"):
            rpc = rpc_pb2.RPC()
            rpc.publish.add(data=b"1", topicIDs=["/test/gossip"], from_id=b"x", seqno=key, key=key, signature=b"s")
            await stream.write(encode_frame(rpc.SerializeToString()))
        with trio.move_on_after(1):  # the answer to nothing: until then they have been read
            await stream.read(1)

    before = served._thread
    await attack(served, act)
    await served.publish("/test/gossip", b"1")
    assert served._thread is before


async def test_the_streams_of_one_peer_are_limited(served: Libp2pNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workarounds, "MAX_STREAMS_PER_PEER", 16)  # all are open before the first is given up, unused
    refused = 0

    async def act(host: IHost, target: ID) -> None:
        nonlocal refused
        conn = host.get_network().get_connections(target)[0]
        streams = [await conn.new_stream() for _ in range(workarounds.MAX_STREAMS_PER_PEER + 20)]
        for stream in streams:
            try:
                await stream.write(b"\x13/multistream/1.0.0\n")
                await stream.read(20)
            except StreamError:
                refused += 1

    await attack(served, act)
    assert 15 <= refused <= 30


async def test_a_length_prefix_beyond_the_bound_is_refused_before_its_bytes(served: Libp2pNetwork) -> None:
    answers: list[bytes] = []

    async def act(host: IHost, target: ID) -> None:
        stream = await host.new_stream(target, [TProtocol(ECHO)])
        await stream.write(b"\xff\xff\xff\xff\x7f")
        answers.append(await stream.read(1000))

    await attack(served, act)
    assert b'"kind":"invalid"' in answers[0]


DIALS = 300  # more than libp2p has slots for, 250, and many more than may stay taken


@pytest.mark.slow
async def test_hundreds_of_inbound_dials_with_new_identities(served: Libp2pNetwork) -> None:
    async def dial_all() -> int:
        done = 0
        address, target = Multiaddr(served.listen_addresses[0].partition("/p2p/")[0]), ID.from_string(served.peer_id)
        for _ in range(DIALS):
            host = build_host(Identity.generate(), (), InboundGuard())
            async with background_trio_service(cast("Swarm", host.get_network())):
                with trio.fail_after(120):
                    conn = await cast("Swarm", host.get_network())._dial_addr_single_attempt(address, target)
                workarounds.close_socket(conn.muxed_conn)
            done += 1
        return done

    assert await asyncio.to_thread(trio.run, dial_all) == DIALS
    swarm = cast("Swarm", served._parts()[1]._host.get_network())
    await wait_until(lambda: swarm._inbound_limiter.borrowed_tokens < 50)  # each connection gave its slot back
    await asyncio.wait_for(served.publish("/test/gossip", b"1"), 120)


async def test_a_taken_port_is_an_error_that_names_it(served: Libp2pNetwork) -> None:
    taken = served.listen_addresses[0].partition("/p2p/")[0]
    second = make(taken)
    with pytest.raises(Unavailable, match=taken):
        await second.start()
    await second.close()
    with socket.create_server(("127.0.0.1", 0)) as other:
        third = make(f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}")
        with pytest.raises(Unavailable, match="taken"):
            await third.start()
        await third.close()


@pytest.mark.parametrize(
    "text", ["/ip4/127.0.0.1/tcp/{}/", "/ip4/127.0.0.1/tcp/0{}", "/ip6/0:0:0:0:0:0:0:1/tcp/{}", "/ip6/::0001/tcp/{}/"]
)
async def test_an_address_may_be_written_in_another_way(text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    network = make(text.format(port))
    await network.start()
    assert network.listen_addresses[0].partition("/p2p/")[0] in (f"/ip4/127.0.0.1/tcp/{port}", f"/ip6/::1/tcp/{port}")
    await network.close()


async def test_quic_is_said_to_be_unused_and_nonsense_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    listen = ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic", "/ip4/127.0.0.1/udp/0/quic-v1")
    network = Libp2pNetwork(Identity.generate(), P2p(listen_address=listen, mdns=False))
    assert caplog.text.count("QUIC is not used") == 2
    await network.start()
    assert all("/tcp/" in address for address in network.listen_addresses)
    await network.close()
    for wrong in ("127.0.0.1:9876", "/ip4/127.0.0.1", "/dns4/x/tcp/1"):
        with pytest.raises(ConfigError, match=wrong):
            Libp2pNetwork(Identity.generate(), P2p(listen_address=(wrong,)))
    with pytest.raises(ConfigError, match="is not a multiaddr"):
        Libp2pNetwork(Identity.generate(), P2p(listen_address=(), announce_address=("/ip4/1.2.3/tcp/1",)))
    with pytest.raises(ConfigError, match="is not a peer"):
        Libp2pNetwork(Identity.generate(), P2p(listen_address=(), bootstrap_peers=("/ip4/127.0.0.1/tcp/1",)))


async def test_all_interfaces_are_announced_one_by_one() -> None:
    network = make("/ip4/0.0.0.0/tcp/0")
    await network.start()
    assert not any("0.0.0.0" in address for address in network.listen_addresses)
    assert any(address.startswith("/ip4/127.0.0.1/tcp/") for address in network.listen_addresses)
    await network.close()
    announced = make("/ip4/0.0.0.0/tcp/0", announce=("/ip4/192.0.2.77/tcp/4001",))
    await announced.start()
    assert announced.listen_addresses == (f"/ip4/192.0.2.77/tcp/4001/p2p/{announced.peer_id}",)
    await announced.close()


async def test_a_host_that_crashes_is_started_again_on_its_port(served: Libp2pNetwork) -> None:
    friend = make()
    await friend.start()
    friend.add_addresses(served.peer_id, served.listen_addresses)
    assert await friend.request(served.peer_id, ECHO, b"1", 30) == b"1"
    before, thread = served.listen_addresses, served._thread
    assert thread is not None

    async def crash() -> None:
        raise RuntimeError("crash")

    thread.post(lambda: thread._nursery.start_soon(crash))
    await asyncio.wait([thread.ended], timeout=120)
    async with asyncio.timeout(120):
        while True:
            try:
                assert await friend.request(served.peer_id, ECHO, b"2", 1) == b"2"
                break
            except PeerUnreachable:
                await asyncio.sleep(0.02)
    assert served.listen_addresses == before
    await friend.close()


async def test_the_library_logs_through_our_logging(served: Libp2pNetwork) -> None:
    library = logging.getLogger("libp2p")
    assert library.propagate
    assert library.getEffectiveLevel() == logging.WARNING


@pytest.mark.slow
async def test_closing_takes_two_seconds_at_most(served: Libp2pNetwork) -> None:
    friends = [make() for _ in range(10)]
    for friend in friends:
        await friend.start()
        friend.add_addresses(served.peer_id, served.listen_addresses)
        await friend.ping(served.peer_id, 30)
    assert network_module._CLOSE_SECONDS < 2
    async with asyncio.timeout(60):
        await served.close()
    await asyncio.gather(*(friend.close() for friend in friends))


@pytest.mark.slow
async def test_a_burst_of_gossip_arrives_whole(served: Libp2pNetwork) -> None:
    heard: set[bytes] = set()
    friend = make()
    friend.serve_gossip("/test/gossip", lambda _peer, body: heard.add(body))
    await friend.start()
    friend.add_addresses(served.peer_id, served.listen_addresses)
    await friend.ping(served.peer_id, 30)
    async with asyncio.timeout(120):
        while b"first" not in heard:  # until both are in the topic's mesh
            await served.publish("/test/gossip", b"first")
            await asyncio.sleep(0.1)
    burst = {b"%d" % number for number in range(300)}
    await asyncio.gather(*(served.publish("/test/gossip", body) for body in burst))
    await wait_until(lambda: burst <= heard, 120)
    await friend.close()


async def test_the_kernel_watches_over_each_connection(served: Libp2pNetwork) -> None:
    friend = make()
    await friend.start()
    friend.add_addresses(served.peer_id, served.listen_addresses)
    await friend.ping(served.peer_id, 30)

    for network, other in ((friend, served), (served, friend)):
        _, node = network._parts()
        conn = node.links.live(other.peer_id)
        assert conn is not None
        stream = workarounds._socket_of(conn.muxed_conn)
        assert stream is not None
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    await friend.close()
