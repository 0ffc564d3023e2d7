"""Peers that send garbage at one step of the way to a stream, as who is dialled and as who dials: it costs them their
connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from libp2p.abc import INetStream, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from dms.adapters.p2p.framing import LINE_ERRORS, encode_frame
from dms.adapters.p2p.host import build_host, running
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard
from dms.adapters.p2p.network import Libp2pNetwork
from dms.adapters.p2p.node import Node
from dms.adapters.p2p.runtime import TrioThread
from dms.config import P2p
from dms.errors import PeerMisbehaved, PeerUnreachable
from tests.fixtures.local_peers import LOCAL
from tests.integration.p2p.waiting import wait_until

ECHO = "/test/echo/1"
_random = random.Random(1)
_MULTISTREAM = encode_frame(b"/multistream/1.0.0\n")


def noise_message(size: int) -> bytes:
    return struct.pack(">H", size) + _random.randbytes(size)


GARBAGE = {
    "multistream": [_random.randbytes(200), b"\xff" * 20, b"\x00", b""],
    "noise": [noise_message(112), noise_message(10), noise_message(0), _random.randbytes(300), b""],
    "muxer": [_random.randbytes(200), b"\xff" * 20, b"\x00", b""],
    "yamux": [_random.randbytes(400), b"\x00" * 12, b"\x00\x01\x00\x01" + b"\xff" * 8, b"\xff" * 24, b""],
}
CASES = [pytest.param(step, data, id=f"{step}-{n}") for step, kinds in GARBAGE.items() for n, data in enumerate(kinds)]


async def misbehave(stream: trio.SocketStream, keys: KeyPair, target: ID | None, step: str, garbage: bytes) -> None:
    """As it should be up to that step, then garbage. target: whom we dialled; None as the listener."""
    raw = RawConnection(TrioTCPStream(stream), target is not None)
    try:
        if step == "multistream":
            await raw.write(garbage)
        elif step == "noise":
            await raw.write(_MULTISTREAM + encode_frame(b"/noise\n") + garbage)
        else:
            await _misbehave_inside(await _secured(raw, keys, target), step, garbage)
        with trio.move_on_after(0.3):
            while await raw.read(1024):
                pass
    except (*LINE_ERRORS, EOFError):
        pass  # it has hung up
    finally:
        await raw.close()


async def _secured(raw: RawConnection, keys: KeyPair, target: ID | None) -> ISecureConn:
    noise = Noise(keys, noise_privkey=create_noise_key_pair().private_key)
    upgrader = TransportUpgrader({TProtocol(NOISE): noise}, {})
    return await upgrader.upgrade_security(raw, target is not None, target)


async def _misbehave_inside(conn: ISecureConn, step: str, garbage: bytes) -> None:
    await conn.write((_MULTISTREAM + encode_frame(b"/yamux/1.0.0\n") if step == "yamux" else b"") + garbage)


@contextlib.asynccontextmanager
async def listener(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """The multiaddr of a TCP server."""

    async def serve(started: Callable[[int], None]) -> None:
        (one,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        started(one.socket.getsockname()[1])
        await trio.serve_listeners(handle, [one])

    thread = TrioThread()
    port = await thread.start(serve)
    try:
        yield f"/ip4/127.0.0.1/tcp/{port}"
    finally:
        thread.cancel()
        await asyncio.wait([thread.ended])


async def echo(_peer_id: str, body: bytes) -> bytes:
    return body


async def still_serves(network: Libp2pNetwork, thread: TrioThread | None) -> None:
    """The same run of the host, to somebody who is new."""
    friend = Libp2pNetwork(Identity.generate(), LOCAL)
    await friend.start()
    friend.add_addresses(network.peer_id, network.listen_addresses)
    try:
        assert await friend.request(network.peer_id, ECHO, b"1", 60) == b"1"
    finally:
        await friend.close()
    assert network._thread is thread
    assert thread is not None
    assert not thread.ended.done()


@contextlib.asynccontextmanager
async def started(bootstrap: str = "") -> AsyncIterator[Libp2pNetwork]:
    settings = P2p(
        listen_address=("/ip4/127.0.0.1/tcp/0",), mdns=False, bootstrap_peers=(bootstrap,) if bootstrap else ()
    )
    network = Libp2pNetwork(Identity.generate(), settings)
    network.serve_request(ECHO, echo)
    await network.start()
    try:
        yield network
    finally:
        await network.close()


@pytest.mark.parametrize(("step", "garbage"), CASES)
async def test_garbage_of_who_is_dialled(step: str, garbage: bytes) -> None:
    """Found by discovery, which goes on with it, and by who asks something of it."""
    identity, dials = Identity.generate(), 0
    keys = create_new_key_pair(identity.seed())

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal dials
        dials += 1
        with contextlib.suppress(Exception):
            await misbehave(stream, keys, None, step, garbage)

    async with listener(handle) as address, started(f"{address}/p2p/{identity.peer_id}") as network:
        thread = network._thread
        with pytest.raises((PeerUnreachable, PeerMisbehaved)):
            await network.ping(identity.peer_id, 60)
        await wait_until(lambda: dials >= 2)
        await still_serves(network, thread)


@pytest.mark.parametrize(("step", "garbage"), CASES)
async def test_garbage_of_who_dials(step: str, garbage: bytes) -> None:
    keys = create_new_key_pair(Identity.generate().seed())
    async with started() as network:
        thread, (_, _, host, _, port, *_) = network._thread, network.listen_addresses[0].split("/")

        async def dial() -> None:
            stream = await trio.open_tcp_stream(host, int(port))
            await misbehave(stream, keys, ID.from_string(network.peer_id), step, garbage)

        await asyncio.to_thread(trio.run, dial)
        await still_serves(network, thread)


def identities(keys: KeyPair) -> dict[str, bytes]:
    key = keys.public_key.serialize()
    bad = [b"\x06\x00", b"", b"\xff" * 9, b"\x04\x01", b"\x35\x7f\x01", b"\x06\x00\x00" * 50]
    return {
        "addresses that are none": encode_frame(Identify(public_key=key, listen_addrs=bad).SerializeToString()),
        "a key that is none": encode_frame(Identify(public_key=b"\xff", listen_addrs=bad).SerializeToString()),
        "random bytes": _random.randbytes(300),
        "an endless length": b"\xff" * 40,
        "nothing": b"",
    }


@pytest.mark.parametrize("dialled", [True, False], ids=["of who is dialled", "of who dials"])
@pytest.mark.parametrize("kind", identities(create_new_key_pair()))
async def test_an_identify_answer_that_is_none(kind: str, dialled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt, learn = threading.Event(), Node._learn_addresses

    async def learn_and_tell(self: Node, conn: SwarmConn) -> None:
        try:
            await learn(self, conn)
        finally:
            learnt.set()

    monkeypatch.setattr(Node, "_learn_addresses", learn_and_tell)
    identity = Identity.generate()
    answer = identities(create_new_key_pair(identity.seed()))[kind]
    told = trio.Event()

    async def identify(stream: INetStream) -> None:
        await stream.write(answer)
        await stream.close()
        told.set()

    async def serve(started: Callable[[str], None]) -> None:
        host = build_host(identity, (), InboundGuard())
        host.set_stream_handler(IDENTIFY, identify)
        async with running(host, ["/ip4/127.0.0.1/tcp/0"]) as bound:
            if not dialled:
                await host.get_network()._dial_addr_single_attempt(  # type: ignore[attr-defined]
                    Multiaddr(network.listen_addresses[0].partition("/p2p/")[0]), ID.from_string(network.peer_id)
                )
            started(bound[0])
            await trio.sleep_forever()

    async with started() as network:
        mine, theirs = network._thread, TrioThread()
        network.add_addresses(identity.peer_id, [await theirs.start(serve)])
        if not dialled:
            await wait_until(network.peers)
        assert await network.ping(identity.peer_id, 60) < 60
        await wait_until(told.is_set)
        await wait_until(learnt.is_set)
        assert mine is not None
        assert not mine.ended.done()
        assert await network.ping(identity.peer_id, 60) < 60  # over the same connection
        theirs.cancel()
        await asyncio.wait([theirs.ended])
        await still_serves(network, mine)
