"""Clients that send what is not a message, as fast as they can: others are served, memory stays bounded, and the
client is told why it is closed."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from dms.adapters.http import connection as connection_module
from dms.adapters.http.connection import MAX_UNSENT_BYTES, Allowance
from dms.adapters.http.server import WEBSOCKETS
from tests.integration.http.node import Node, running_node

TEXT, BINARY, CONT, PING, PONG, CLOSE = 1, 2, 0, 9, 10, 8
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """As a client sends it, masked with zeros."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return bytes([opcode | (0x80 if fin else 0)]) + size + bytes(4) + data


BEGUN = frame(TEXT, b"{", fin=False)
FLOODS = {  # what is sent over and over, behind what is sent once
    "empty continuations": (BEGUN, frame(CONT, fin=False)),
    "tiny continuations": (BEGUN, frame(CONT, b"x", fin=False)),
    "pings": (b"", frame(PING, b"x" * 125)),
    "empty pings": (b"", frame(PING)),
    "pongs": (b"", frame(PONG)),
    "pings within a message": (BEGUN, frame(PING) + frame(CONT, fin=False)),
    "empty messages": (b"", frame(TEXT)),
    "empty binary messages": (b"", frame(BINARY)),
    "messages in two frames": (b"", frame(TEXT, fin=False) + frame(CONT)),
    "big messages": (b"", frame(TEXT, b"x" * 60_000)),
}


async def opened(node: Node, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(HANDSHAKE.format(path=path).encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def last_word(received: bytes) -> tuple[int, str]:
    """Code and reason of the close frame that ends what a server sent."""
    for size in range(2, 126):
        at = len(received) - size - 2
        if at >= 0 and received[at : at + 2] == bytes([0x80 | CLOSE, size]):
            return struct.unpack(">H", received[at + 2 : at + 4])[0], received[at + 4 :].decode()
    return 0, ""


async def serve_meanwhile(node: Node, flood: asyncio.Task[None]) -> int:
    """Other connections are answered until the flood is over; the most that waited to be sent to anybody."""
    most = 0
    async with node.client() as client, asyncio.timeout(120):
        while not flood.done():
            assert (await client.get("/livez")).status_code == 200
            most = max([most, *(c.transport.get_write_buffer_size() for c in node.connections if c.transport)])
    return most


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/run/deploy", "/api/v1/events/ws"])
@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_is_closed_with_a_reason(
    node: Node, path: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 1.0)
    once, again = FLOODS[kind]
    reader, writer = await opened(node, path)
    received = bytearray()

    async def attack() -> None:
        block = again * max(20, 100_000 // len(again))
        with suppress(OSError):
            writer.write(once)
            for _ in range(10):
                writer.write(block)
                await writer.drain()

    async def listen() -> None:
        while data := await reader.read(65_536):
            received.extend(data)

    attacking, listening = asyncio.create_task(attack()), asyncio.create_task(listen())
    assert await serve_meanwhile(node, listening) < MAX_UNSENT_BYTES + 100_000
    code, reason = last_word(bytes(received))
    assert (code, bool(reason)) == (1008, True), bytes(received[-80:])
    attacking.cancel()
    writer.close()
    await gone(node)


async def gone(node: Node) -> None:
    async with asyncio.timeout(120):
        while any(connection.socket is not None for connection in node.connections):
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_flood_that_never_reads_costs_no_memory_and_is_cut(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pongs, and whatever is said to it, go nowhere."""
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(connection_module, "MAX_CONTROLS_A_MINUTE", 10**9)
    reader, writer = await opened(node, "/run/deploy")
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's: it reads, too

    async def attack() -> None:
        with suppress(OSError):
            for _ in count():
                writer.write(frame(PING, b"x" * 125) * 1000)
                await writer.drain()

    attacking = asyncio.create_task(attack())
    leaving = asyncio.create_task(gone(node))
    assert await serve_meanwhile(node, leaving) < MAX_UNSENT_BYTES + 200_000
    await leaving
    attacking.cancel()
    writer.transport.abort()
    del reader


async def test_a_socket_that_floods_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        _, writer = await opened(node, "/run/deploy")
        writer.write(BEGUN)

        async def attack() -> None:
            with suppress(OSError):
                while True:
                    writer.write(frame(CONT, fin=False) * 10_000)
                    await writer.drain()

        attacking = asyncio.create_task(attack())
        await serve_meanwhile(node, asyncio.create_task(asyncio.sleep(0)))
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 120
    attacking.cancel()
    writer.transport.abort()


async def test_what_came_behind_the_handshake_is_bounded_as_well(node: Node) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(HANDSHAKE.format(path="/run/deploy").encode() + frame(PING) * 100_000)
    received = await asyncio.wait_for(reader.read(), 120)
    assert last_word(received)[0] == 1008
    writer.close()


async def test_more_than_a_buffer_behind_the_handshake_is_still_heard(node: Node) -> None:
    big = frame(TEXT, b'{"action":"dance"' + b" " * 30_000 + b"}") * 5
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(HANDSHAKE.format(path="/run/deploy").encode() + big)
    async with asyncio.timeout(120):
        for _ in range(5):
            await reader.readuntil(b"unknown action")
        writer.write(frame(CLOSE, struct.pack(">H", 1000)))
        assert last_word(await reader.read()) == (1000, "")
    writer.close()


async def test_who_sends_what_is_usual_is_not_meant(node: Node) -> None:
    async with node.connect() as ws:
        await ws.recv()
        for _ in range(3):
            await ws.send(iter(['{"action"', *":'dance'}"]))
            assert "error" in str(await ws.recv())
        for _ in range(100):
            await asyncio.wait_for(await ws.ping(), 120)
    assert ws.close_code == 1000


def test_an_allowance_is_used_up_and_comes_back() -> None:
    allowance = Allowance(60, now=0.0)
    assert [allowance.take(0.0) for _ in range(61)] == [True] * 60 + [False]
    assert [allowance.take(2.0) for _ in range(3)] == [True, True, False]
    assert sum(allowance.take(10_000.0) for _ in range(100)) == 60


def test_every_websocket_is_served_by_the_one_class_that_counts() -> None:
    """What the floods above meet is the same for all: no address has a socket of its own."""
    assert {socket.address.rpartition("/")[2] for socket in WEBSOCKETS} == {
        "deploy", "ws", "send", "accept", "start", "join",
    }  # fmt: skip
