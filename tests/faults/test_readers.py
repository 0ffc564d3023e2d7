"""Readers of the event stream, over HTTP and NATS, that are killed again and again, on a DMS that is killed too."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.fixtures import event_reader, nats_event_reader, prepared
from tests.fixtures.dms import Dms
from tests.fixtures.nats import NatsServer

pytestmark = [pytest.mark.slow]

EVENTS = int(os.environ.get("READ_EVENTS", "3000"))
READER_KILLS, DMS_KILLS = EVENTS // 100, max(4, EVENTS // 1000)


class Reader:
    """The program, killed and started anew on the same file."""

    def __init__(self, path: Path, program: ModuleType, *arguments: str) -> None:
        """The program takes the path as its last argument."""
        self.path = path
        self.kills = 0
        self._program, self._arguments = program.__name__, [*arguments, str(path)]
        self._process = self._start()

    def _start(self) -> prepared.Process:
        with self.path.with_suffix(".log").open("ab") as log:
            return prepared.start(self._arguments, log, os.environ, self._program)

    def positions(self) -> list[int]:
        return [int(line) for line in self.path.read_text().split()] if self.path.exists() else []

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(120)
        self.kills += 1
        self._process = self._start()

    def end(self) -> None:
        self._process.kill()
        self._process.wait(120)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.kill9()


@pytest.fixture
def dms(tmp_path: Path, server: NatsServer) -> Iterator[Dms]:
    made = Dms(tmp_path / "dms", settings={"job.executor": "process", "nats.url": server.url})
    made.start()
    yield made
    made.end()


@pytest.fixture
def readers(dms: Dms, server: NatsServer, tmp_path: Path) -> Iterator[list[Reader]]:
    port = str(dms.rest_port)
    made = [Reader(tmp_path / form, event_reader, dms.host, port, form) for form in ("ndjson", "sse")]
    made.append(Reader(tmp_path / "nats.positions", nats_event_reader, server.url))
    yield made
    for reader in made:
        reader.end()


class Switch:
    """Makes events: the device is offline, online, offline ... One connection, many requests at a time on it."""

    def __init__(self, dms: Dms) -> None:
        self._dms = dms
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def toggle(self, times: int) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._dms.host, self._dms.rest_port)
        reader, writer = self._streams
        writer.write(b"".join(self._request(available=bool(number % 2)) for number in range(times)))
        for _ in range(times):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert length is not None, head
            body = await reader.readexactly(int(length[1]))
            assert head.startswith(b"HTTP/1.1 200 "), (head, body)

    def _request(self, *, available: bool) -> bytes:
        body = b'{"is_available": %s}' % (b"true" if available else b"false")
        head = f"POST /api/v1/device/status HTTP/1.1\r\nHost: {self._dms.host}:{self._dms.rest_port}\r\n"
        return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def close(self) -> None:
        """Before the DMS goes."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def test_every_position_once_and_in_order_whoever_is_killed(dms: Dms, readers: list[Reader]) -> None:
    rng = random.Random(11)
    await dms.ready()
    await dms.onboard()
    recorded, switch = 1, Switch(dms)
    reader_kills = sorted(rng.sample(range(2, EVENTS), READER_KILLS))
    dms_kills = sorted(rng.sample(range(EVENTS // 20, EVENTS), DMS_KILLS))
    while recorded < EVENTS:
        await switch.toggle(50)
        recorded = int((await dms.get("/readyz"))["head"])
        while reader_kills and recorded >= reader_kills[0]:
            reader_kills.pop(0)
            for reader in readers:
                reader.kill()
        if dms_kills and recorded >= dms_kills[0]:
            dms_kills.pop(0)
            switch.close()
            dms.kill9()
            dms.start()
            await dms.ready()
    switch.close()
    async with asyncio.timeout(120):
        while any(len(reader.positions()) < EVENTS for reader in readers):
            await asyncio.sleep(0.1)
    for reader in readers:
        assert reader.kills == READER_KILLS
        assert reader.positions()[:EVENTS] == list(range(1, EVENTS + 1))
