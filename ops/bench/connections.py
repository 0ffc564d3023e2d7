"""`python -m ops.bench connections`: 10,000 idle websockets and 1,000 slow requests at a time, held by a process of
their own, and what an honest client waits for an answer meanwhile, beside what it waits in quiet.

CONNECTIONS_IDLE, CONNECTIONS_SLOW: other numbers of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

import httpx
import psutil

from ops.bench.report import Row
from tests.fixtures.dms import Dms

IDLE, SLOW, REQUESTS = 10_000, 1_000, 400
AT_ONCE = 100  # that are opened at the same time
DRIP_SECONDS = 1.0
HELD_SECONDS = 120.0
UPGRADE = (
    b"GET /api/v1/run/deploy HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HALF = b"POST /api/v1/onboarding/onboard HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
PING, PONG, MASK = 0x89, 0x8A, b"\0\0\0\0"


class IdleWebsocket(asyncio.Protocol):
    """Asks for nothing, and answers pings, so that it is not taken for dead."""

    def __init__(self) -> None:
        self.status, self.lost = asyncio.get_running_loop().create_future(), False
        self._transport: asyncio.Transport | None = None
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self.status.done():
            head, end, rest = self._unread.partition(b"\r\n\r\n")
            if end:
                self.status.set_result(int(head.split(b" ", 2)[1]))
                self._unread = rest
        while self.status.done() and (frame := self._frame()) is not None:
            kind, payload = frame
            if kind == PING and self._transport is not None:
                self._transport.write(bytes((PONG, 0x80 | len(payload))) + MASK + payload)

    def _frame(self) -> tuple[int, bytes] | None:
        """The next whole one: its first byte, and its payload. None: it is not here yet."""
        if len(self._unread) < 4:
            return None
        length, begin = self._unread[1], 2
        if length == 126:
            length, begin = struct.unpack_from(">H", self._unread, 2)[0], 4
        if len(self._unread) < begin + length:
            return None
        kind, payload = self._unread[0], self._unread[begin : begin + length]
        self._unread = self._unread[begin + length :]
        return kind, payload

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.status.done():
            self.status.set_result(0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Crowd:
    """idle: websockets that are open. slow: requests that never end, each begun anew when it is cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[IdleWebsocket] = []
        self._slow: list[asyncio.Task[None]] = []
        self._dripping = 0

    @property
    def idle(self) -> int:
        return sum(not one.lost for one in self._sockets)

    @property
    def slow(self) -> int:
        return self._dripping

    async def open(self, idle: int, slow: int) -> None:
        """Raises ConnectionError when one is not let in."""
        slots = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._open_one(slots) for _ in range(idle)))
        self._slow = [asyncio.create_task(self._drip()) for _ in range(slow)]
        while self._dripping < slow:  # noqa: ASYNC110  # once
            await asyncio.sleep(0.01)

    async def _open_one(self, slots: asyncio.Semaphore) -> None:
        async with slots:
            loop = asyncio.get_running_loop()
            _, made = await loop.create_connection(IdleWebsocket, "127.0.0.1", self._port)
            self._sockets.append(made)
            status = await made.status
            if status != 101:
                raise ConnectionError(f"websocket {len(self._sockets)} got {status}")

    async def _drip(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                self._dripping += 1
                try:
                    writer.write(HALF)
                    while not reader.at_eof():
                        writer.write(b"x")
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(DRIP_SECONDS):
                                await reader.read(1000)
                finally:
                    self._dripping -= 1
                    writer.close()

    async def close(self) -> None:
        for task in self._slow:
            task.cancel()
        await asyncio.gather(*self._slow, return_exceptions=True)
        for one in self._sockets:
            one.close()


@contextlib.asynccontextmanager
async def crowd(port: int, idle: int, slow: int) -> AsyncIterator[Crowd]:
    made = Crowd(port)
    try:
        await made.open(idle, slow)
        yield made
    finally:
        await made.close()


class Waits(NamedTuple):
    """Of an honest client's requests, in milliseconds."""

    median: float
    p99: float


async def honest(url: str, requests: int = REQUESTS) -> Waits:
    """Each on a connection of its own, as a new client's."""
    found = []
    for _ in range(requests):
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            begun = time.perf_counter()
            answer = await client.get("/api/v1/jobs")
            found.append((time.perf_counter() - begun) * 1000)
            answer.raise_for_status()
    cuts = quantiles(found, n=100, method="inclusive")
    return Waits(cuts[49], cuts[98])


class Measured(NamedTuple):
    """bytes_each: of the server's memory, for one that is held."""

    quiet: Waits
    crowded: Waits
    idle: int
    slow: int
    bytes_each: float


async def measure(dms: Dms, idle: int, slow: int, requests: int) -> Measured:
    """With the crowd in a process of its own, so that it takes nothing from the honest client but the server's time."""
    process = psutil.Process(dms.pid)
    await honest(dms.url, requests // 4)  # what is done once is done
    quiet, before = await honest(dms.url, requests), process.memory_info().rss
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.bench.connections", str(dms.rest_port), str(idle), str(slow),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        async with asyncio.timeout(HELD_SECONDS * 5):
            if not await holder.stdout.readline():
                raise ConnectionError("the websockets were not let in")
        each = (process.memory_info().rss - before) / max(1, idle + slow)
        crowded = await honest(dms.url, requests)
    finally:
        holder.stdin.close()
    held = (await holder.stdout.readline()).split()  # after the measurement: none was lost meanwhile
    await holder.wait()
    return Measured(quiet, crowded, int(held[0]), int(held[1]), each)


async def _hold(port: int, idle: int, slow: int) -> None:
    async with crowd(port, idle, slow) as held:
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until who started us is done
        print(held.idle, held.slow, flush=True)


def raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run() -> Iterator[Row]:
    raise_open_files()
    idle, slow = (int(os.environ.get(f"CONNECTIONS_{name}", most)) for name, most in (("IDLE", IDLE), ("SLOW", SLOW)))
    with tempfile.TemporaryDirectory() as folder:
        dms = Dms(Path(folder), settings={"job.executor": "process", "rest.requests_a_minute": "1000000"})
        dms.start()
        try:
            asyncio.run(dms.ready())
            found = asyncio.run(measure(dms, idle, slow, REQUESTS))
        finally:
            dms.end()
    crowd_of = f"{found.idle} idle websockets, {found.slow} slow requests"
    for name, quiet, crowded, target in (
        ("median", found.quiet.median, found.crowded.median, ""),
        ("p99", found.quiet.p99, found.crowded.p99, "p99 < 20 ms on a quiet machine"),
    ):
        yield Row(
            f"GET {name} beside {crowd_of}", f"{quiet:.1f} ms in quiet", f"{crowded:.1f} ms", crowded / quiet, target
        )
    each = found.bytes_each / 1024
    yield Row("memory of one that is held", "40 KiB", f"{each:.0f} KiB", each / 40, "<= 1")


if __name__ == "__main__":
    raise_open_files()
    asyncio.run(_hold(*map(int, sys.argv[1:4])))
