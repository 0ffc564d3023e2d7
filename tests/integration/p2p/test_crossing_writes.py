"""Two peers that send each other much at the same time: neither waits for the other to read before it reads itself."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.lowlevel
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING, YAMUX_HEADER_FORMAT, YamuxStream

from dms.adapters.p2p import workarounds
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.workarounds import HardenedYamux

STREAMS, BYTES = 20, 200_000


class Line:
    """A secured connection that buffers nothing: who writes waits until its peer reads."""

    def __init__(self, sending: trio.MemorySendChannel[bytes], receiving: trio.MemoryReceiveChannel[bytes]) -> None:
        self._sending, self._receiving, self._left = sending, receiving, b""

    async def read(self, n: int) -> bytes:
        if not self._left:
            self._left = await self._receiving.receive()
        taken, self._left = self._left[:n], self._left[n:]
        return taken

    async def write(self, data: bytes) -> None:
        assert data, "to the peer, that is the connection's end"
        await self._sending.send(data)

    async def close(self) -> None:
        """Who waits for it hears of that, cancelled or not."""
        self._sending.close()
        self._receiving.close()

    def get_remote_address(self) -> None: ...


def lines() -> tuple[Line, Line]:
    to_second, from_first = trio.open_memory_channel[bytes](0)
    to_first, from_second = trio.open_memory_channel[bytes](0)
    return Line(to_second, from_second), Line(to_first, from_first)


@asynccontextmanager
async def muxers() -> AsyncIterator[tuple[HardenedYamux, HardenedYamux]]:
    async with trio.open_nursery() as nursery:
        both = tuple(
            HardenedYamux(cast("Any", line), ID.from_string(Identity.generate().peer_id), is_initiator=first)
            for line, first in zip(lines(), (True, False), strict=True)
        )
        for one in both:
            nursery.start_soon(one.start)
            await one.event_started.wait()
        yield both[0], both[1]
        nursery.cancel_scope.cancel()


async def send_much(muxer: HardenedYamux) -> None:
    async def one() -> None:
        stream = await muxer.open_stream()
        await workarounds._patient_write(stream, bytes(BYTES))
        await stream.close()

    async with trio.open_nursery() as nursery:
        for _ in range(STREAMS):
            nursery.start_soon(one)


async def take_all(muxer: HardenedYamux, taken: list[int]) -> None:
    async def one(stream: YamuxStream) -> None:
        size = 0
        while size < BYTES:
            size += len(await stream.read(BYTES))
        taken.append(size)

    async with trio.open_nursery() as nursery:
        for _ in range(STREAMS):
            nursery.start_soon(one, cast("YamuxStream", await muxer.accept_stream()))


def test_both_send_much_at_once_and_all_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workarounds, "STUCK_AFTER", math.inf)  # it would end the connection
    taken = list[int]()

    async def main() -> None:
        with trio.fail_after(60):
            async with muxers() as both, trio.open_nursery() as nursery:
                for one in both:
                    nursery.start_soon(send_much, one)
                    nursery.start_soon(take_all, one, taken)

    trio.run(main)
    assert taken == [BYTES] * STREAMS * 2


def test_answers_that_nobody_takes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of pings from who reads nothing: at some point no more of them is read."""
    monkeypatch.setattr(workarounds, "STUCK_AFTER", math.inf)  # it would end the connection
    ping = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, 7)

    async def main() -> int:
        ours, theirs = lines()
        muxer = HardenedYamux(cast("Any", ours), ID.from_string(Identity.generate().peer_id), is_initiator=False)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(muxer.start)
                nursery.start_soon(flood, theirs, ping * 1000)
                while muxer._write_lock.statistics().tasks_waiting == 0:  # the reader
                    await trio.lowlevel.checkpoint()
                waiting = len(muxer._answers)
                for _ in range(1000):
                    await trio.lowlevel.checkpoint()
                assert len(muxer._answers) == waiting
                nursery.cancel_scope.cancel()
                await theirs.close()
        return waiting

    assert workarounds._MOST_ANSWERS <= trio.run(main) <= workarounds._MOST_ANSWERS + len(ping)


async def flood(line: Line, data: bytes) -> None:
    while True:
        await line.write(data)
