"""What one peer can make a node hold that nobody reads: the windows that it was given, and so much a connection.

The peer is a real second host, whose muxer obeys no window."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import cast

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    FLAG_RST,
    TYPE_DATA,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
    YamuxStream,
)

from dms.adapters.p2p import coming, exchange, workarounds
from dms.adapters.p2p.coming import ComingFrames, Reading
from dms.adapters.p2p.framing import LINE_ERRORS, MAX_FRAME, encode_frame
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.adapters.p2p.workarounds import MAX_RECEIVE_WINDOW, MAX_UNREAD, MAX_WIDENED, HardenedYamux
from tests.fixtures.local_peers import LOCAL
from tests.integration.p2p.stranger import attack, connected
from tests.integration.p2p.waiting import until, wait_until

ECHO, DEAF, BULK = "/test/echo/1", "/test/deaf/1", "/test/bulk/1"
PING = "/ipfs/ping/1.0.0"
PIECE = 32 * 1024


async def echo(_peer_id: str, body: bytes) -> bytes:
    return body


async def deaf(_stream: INetStream) -> None:
    """Its peer may send on for as long as it likes, and nobody reads that."""
    await trio.sleep_forever()


async def bulk(_peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
    for number in range(int(body)):
        yield b'"%s"' % (b"%06d" % number * 5000)


@pytest.fixture
async def served() -> AsyncIterator[Libp2pNetwork]:
    network = Libp2pNetwork(Identity.generate(), LOCAL, heartbeat=(600.0, 600.0))
    network.serve_request(ECHO, echo)
    network._serve(DEAF, lambda _server: deaf)
    network.serve_stream(BULK, bulk)
    await network.start()
    yield network
    await network.close()


def muxers(network: Libp2pNetwork) -> list[HardenedYamux]:
    conns = network._parts()[1]._host.get_network().get_connections()
    return [cast("HardenedYamux", conn.muxed_conn) for conn in conns]


def held(network: Libp2pNetwork) -> int:
    """Bytes that wait to be read, over all connections."""
    return sum(len(buffer) for muxer in muxers(network) for buffer in list(muxer.stream_buffers.values()))


def ended(network: Libp2pNetwork) -> bool:
    return not muxers(network)


async def opened(host: IHost, target: ID, protocol: str) -> YamuxStream:
    return cast("YamuxStream", cast("NetStream", await host.new_stream(target, [TProtocol(protocol)])).muxed_stream)


async def gone(stream: YamuxStream) -> None:
    """Its connection, though no heartbeat ends it."""
    with trio.fail_after(120):
        await cast("HardenedYamux", stream.conn).event_closed.wait()


async def send(stream: YamuxStream, size: int, flags: int = 0) -> None:
    """A frame, whatever the window says."""
    header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, flags, stream.stream_id, size)
    await cast("HardenedYamux", stream.conn)._write_frame(header + b"p" * size)


@pytest.mark.parametrize("protocol", [PING, DEAF])
async def test_the_first_byte_beyond_the_window_ends_the_connection(served: Libp2pNetwork, protocol: str) -> None:
    async def act(host: IHost, target: ID) -> None:
        stream = await opened(host, target, protocol)
        with suppress(*LINE_ERRORS):
            await send(stream, 1)
            for _ in range(20 * MAX_RECEIVE_WINDOW // PIECE):
                await send(stream, PIECE)
                assert held(served) <= MAX_RECEIVE_WINDOW + PIECE
        await gone(stream)

    await attack(served, act)


async def test_a_frame_that_is_longer_than_the_window_is_not_waited_for(served: Libp2pNetwork) -> None:
    async def act(host: IHost, target: ID) -> None:
        stream = await opened(host, target, DEAF)
        header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream.stream_id, 2 * MAX_RECEIVE_WINDOW)
        await cast("HardenedYamux", stream.conn)._write_frame(header)
        await gone(stream)

    await attack(served, act)


async def test_many_streams_of_a_connection_have_one_bound(
    served: Libp2pNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workarounds, "READ_AFTER", 0.2)

    async def act(host: IHost, target: ID) -> None:
        stream = await opened(host, target, DEAF)
        with suppress(*LINE_ERRORS):
            for _ in range(3 * MAX_UNREAD // DEFAULT_WINDOW_SIZE):
                stream = await opened(host, target, DEAF)
                for _ in range(DEFAULT_WINDOW_SIZE // PIECE - 1):
                    await send(stream, PIECE)
                    assert held(served) <= MAX_UNREAD
        await gone(stream)

    await attack(served, act)


async def test_when_all_hold_too_much_who_holds_most_is_ended(
    served: Libp2pNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workarounds, "READ_AFTER", 0.2)
    monkeypatch.setattr(workarounds, "MAX_UNREAD_OF_ALL", 3 * DEFAULT_WINDOW_SIZE // 2)

    async def fill(host: IHost, target: ID, size: int) -> HardenedYamux:
        stream = await opened(host, target, DEAF)
        with suppress(*LINE_ERRORS):
            await send(stream, size)
        return cast("HardenedYamux", stream.conn)

    async def act(host: IHost, target: ID) -> None:
        most = await fill(host, target, DEFAULT_WINDOW_SIZE - 100)

        async def second(other: IHost, target: ID) -> None:
            less = await fill(other, target, DEFAULT_WINDOW_SIZE * 3 // 4)
            with trio.fail_after(30):
                await most.event_closed.wait()
            assert not less.is_closed

        async with connected(served) as (other, _):
            await second(other, target)

    await attack(served, act)


@pytest.mark.parametrize("how", ["reset", "answered"])
async def test_nothing_stays_of_what_came_before_a_stream_ended(served: Libp2pNetwork, how: str) -> None:
    async def act(host: IHost, target: ID) -> None:
        for _ in range(2 * MAX_UNREAD // DEFAULT_WINDOW_SIZE):
            stream = await opened(host, target, DEAF if how == "reset" else ECHO)
            await stream.write(encode_frame(b"1"))
            await send(stream, PIECE)
            if how == "reset":
                header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_WINDOW_UPDATE, FLAG_RST, stream.stream_id, 0)
                await cast("HardenedYamux", stream.conn)._write_frame(header)
            else:
                with suppress(*LINE_ERRORS):  # it sent more than it was asked for
                    await stream.read(10)
        await until(lambda: not held(served))

    await attack(served, act)


async def test_who_obeys_the_windows_is_served_however_slowly_we_read(served: Libp2pNetwork) -> None:
    """Twenty streams that we opened, each wider than what one connection may hold of a stranger's, all read late."""
    friend = Libp2pNetwork(Identity.generate(), LOCAL)
    await friend.start()
    friend.add_addresses(served.peer_id, served.listen_addresses)
    streams = [friend.stream(served.peer_id, BULK, b"100") for _ in range(20)]
    for stream in streams:
        await anext(stream)
    await wait_until(lambda: held(friend) > MAX_UNREAD)
    assert held(friend) <= len(streams) * DEFAULT_WINDOW_SIZE + MAX_WIDENED
    assert await friend.request(served.peer_id, ECHO, b"1", 60) == b"1"
    for stream in streams:
        assert len([item async for item in stream]) == 99
    await friend.close()


async def test_many_large_requests_at_once_are_answered(served: Libp2pNetwork) -> None:
    friend = Libp2pNetwork(Identity.generate(), LOCAL)
    await friend.start()
    friend.add_addresses(served.peer_id, served.listen_addresses)
    body = b'"%s"' % (b"x" * 200_000)
    answers = await asyncio.gather(*(friend.request(served.peer_id, ECHO, body, 120) for _ in range(60)))
    assert answers == [body] * 60
    assert [conn.is_closed for conn in muxers(friend)] == [False]
    assert MAX_RECEIVE_WINDOW <= MAX_UNREAD
    await friend.close()


async def test_frames_that_are_never_sent_whole_have_one_bound(
    served: Libp2pNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read of them is no muxer's any more. An honest peer, and one that is only slow, are not in the way."""
    monkeypatch.setattr(coming, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(exchange, "_OPENING_SECONDS", 600.0)  # no frame is ended for its time
    begun, most = encode_frame(b"p" * MAX_FRAME)[:-1], 0
    plain = ComingFrames.have

    def have(self: ComingFrames, reading: Reading, size: int) -> None:
        nonlocal most
        plain(self, reading, size)
        most = max(most, self.size)

    monkeypatch.setattr(ComingFrames, "have", have)

    async def act(host: IHost, target: ID) -> None:
        async with connected(served) as (slow, _):
            patient = await slow.new_stream(target, [TProtocol(ECHO)])
            body = encode_frame(b'"%s"' % (b"slowly" * 10_000))
            await patient.write(body[:50_000])
            greedy = [await opened(host, target, ECHO) for _ in range(16)]
            with suppress(*LINE_ERRORS):
                for stream in greedy:
                    await stream.write(begun)
            await until(lambda: sum(stream.reset_received for stream in greedy) >= len(greedy) - 4)
            await patient.write(body[50_000:])
            assert len(await patient.read(100)) > 0

    honest = Libp2pNetwork(Identity.generate(), LOCAL)
    await honest.start()
    honest.add_addresses(served.peer_id, served.listen_addresses)
    attacking, body = asyncio.create_task(attack(served, act)), b'"%s"' % (b"h" * 200_000)
    while not attacking.done():
        assert await honest.request(served.peer_id, ECHO, body, 120) == body
    await attacking
    await honest.close()
    assert 1 << 19 < most <= 1 << 20
