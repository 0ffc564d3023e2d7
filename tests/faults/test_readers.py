"""Readers of the event stream, over HTTP and NATS, that are killed again and again, on a DMS that is killed too."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from tests.fixtures import event_reader, nats_event_reader, prepared
from tests.fixtures.dms import Dms
from tests.fixtures.nats import NatsServer

pytestmark = [pytest.mark.slow]

EVENTS, READER_KILLS, DMS_KILLS = 10_000, 100, 10


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


async def test_every_position_once_and_in_order_whoever_is_killed(dms: Dms, readers: list[Reader]) -> None:
    rng = random.Random(11)
    await dms.ready()
    await dms.onboard()
    recorded = 1
    reader_kills = sorted(rng.sample(range(2, EVENTS), READER_KILLS))
    dms_kills = sorted(rng.sample(range(EVENTS // 20, EVENTS), DMS_KILLS))
    async with httpx.AsyncClient(base_url=f"{dms.url}/api/v1", timeout=120) as client:
        while recorded < EVENTS:
            recorded = await toggled(client, recorded)
            while reader_kills and recorded >= reader_kills[0]:
                reader_kills.pop(0)
                for reader in readers:
                    reader.kill()
            if dms_kills and recorded >= dms_kills[0]:
                dms_kills.pop(0)
                dms.kill9()
                dms.start()
                await dms.ready()
    async with asyncio.timeout(120):
        while any(len(reader.positions()) < EVENTS for reader in readers):
            await asyncio.sleep(0.1)
    for reader in readers:
        assert reader.kills == READER_KILLS
        assert reader.positions()[:EVENTS] == list(range(1, EVENTS + 1))


async def toggled(client: httpx.AsyncClient, recorded: int) -> int:
    """Some events more; how many there are now."""
    for _ in range(25):
        for available in (False, True):
            answer = await client.post("/device/status", json={"is_available": available})
            assert answer.status_code == 200, answer.text
    answer = await client.get("/readyz")
    return int(answer.json()["head"])
