"""A client that follows and never reads: whatever way it follows, what it is sent waits in a bounded place, and who
follows in the same way gets each event at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from dms.adapters.http import events, live
from dms.adapters.http.connection import MAX_UNSENT_BYTES
from dms.domain.device import Device
from tests.integration.http.node import Node, running_node

NEVER_SECONDS = 10_000.0  # so that whoever waits for the stuck one waits for ever
EVENT_BYTES, ROUNDS, A_ROUND = 900, 40, 100
KINDLY = 120.0
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)
WAYS = {
    "JSON lines": ("/api/v1/events?follow=true", "", ""),
    "Server-Sent Events": ("/api/v1/events?follow=true", "Accept: text/event-stream\r\n", ""),
    "a websocket of events": ("/api/v1/events/ws?after=0", UPGRADE, ""),
    "a page": ("/api/v1/live/ws", UPGRADE, '{"id":"e","subscribe":"events","after":0}'),
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


def asked(way: str) -> bytes:
    path, headers, message = WAYS[way]
    frame = Frame(Opcode.TEXT, message.encode()).serialize(mask=True) if message else b""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() + frame


def stuck_reader(node: Node, way: str) -> socket.socket:
    """With as small a buffer as the kernel allows."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", node.port))
    made.sendall(asked(way))
    return made


async def saved(node: Node, device: Device) -> int:
    """The position of the last of a round."""
    for number in range(A_ROUND):
        device.trigger(Device.DefaultProviderChanged(peer_id=f"{number:0>{EVENT_BYTES}}"))
    await node.log.save(device)
    return node.log.head


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
async def test_who_follows_in_the_same_way_as_one_that_never_reads_gets_each_event_at_once(
    node: Node, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEND_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(live, "SEND_SECONDS", NEVER_SECONDS)
    device = Device("p")
    with stuck_reader(node, way):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(asked(way))
        received, most_unsent, was_stuck = bytearray(), 0, False
        for _ in range(ROUNDS):
            wanted = f'"position":{await saved(node, device)}'.encode()
            async with asyncio.timeout(KINDLY):
                while wanted not in received:
                    received += await reader.read(65_536)
            del received[:]
            unsent = [one.transport.get_write_buffer_size() for one in node.connections if one.transport]
            most_unsent, was_stuck = max([most_unsent, *unsent]), was_stuck or max(unsent, default=0) > 0
        assert was_stuck or len(node.connections) == 1, "it read, or was never sent anything"
        assert most_unsent < MAX_UNSENT_BYTES + A_ROUND * 4 * EVENT_BYTES
        writer.close()
