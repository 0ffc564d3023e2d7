"""The table of advertisements over a network that loses messages: the real log, and gossip that is a list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.p2p.identity import Identity
from dms.application import directory as directory_module
from dms.application.device import DeviceService
from dms.application.directory import Directory
from dms.application.ports import GossipHandler, PeerInfo, RequestHandler
from dms.domain.device import Offer
from tests.integration.http.node import ADDRESS, FixedHardware, LonelyNetwork

OFFER = Offer(
    cpu_mhz=4000,
    memory_mb=8000,
    channel="nunet-test",
    payment_address=ADDRESS,
    blockchain="Cardano",
    ntx_price=Decimal("0.01"),
    hostname="provider",
)


class Gossip(LonelyNetwork):
    """Hands what is published to the one listener; loses the first `lost` messages, as a mesh that forms."""

    def __init__(self, peer_id: str, lost: int = 0) -> None:
        super().__init__(peer_id)
        self.lost = lost
        self.listener: Gossip | None = None
        self.reached = asyncio.Event()
        self._handler: GossipHandler | None = None
        self._answer: RequestHandler | None = None
        self.neighbour: Gossip | None = None

    def serve_gossip(self, topic: str, handler: GossipHandler) -> None:
        self._handler = handler

    def serve_request(self, protocol: str, handler: RequestHandler) -> None:
        self._answer = handler

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        if self.neighbour is None or self.neighbour._answer is None:
            return await super().request(peer_id, protocol, body, timeout_seconds)
        return await self.neighbour._answer(self.peer_id, body)

    def peers(self) -> Sequence[PeerInfo]:
        return [PeerInfo(peer_id=self.neighbour.peer_id, addresses=())] if self.neighbour is not None else []

    async def publish(self, topic: str, body: bytes) -> None:
        if self.lost:
            self.lost -= 1
        elif self.listener is not None and self.listener._handler is not None:
            self.listener._handler(self.peer_id, body)
            self.listener.reached.set()


@asynccontextmanager
async def member(folder: Path, name: str, lost: int = 0) -> AsyncIterator[tuple[Directory, DeviceService, Gossip]]:
    async with AsyncExitStack() as closing:
        log = SQLiteEventLog(folder / f"{name}.db", lambda: time.time_ns() // 1000)
        await log.start()
        closing.push_async_callback(log.close)
        identity = Identity.load_or_create(folder / f"{name}.key")
        network = Gossip(identity.peer_id, lost)
        device = DeviceService(log, FixedHardware(), identity.peer_id)
        directory = Directory(log, device, network, identity, lambda: time.time_ns() // 1000)
        directory.serve()
        await directory.start()
        closing.push_async_callback(directory.close)
        yield directory, device, network


async def test_an_offer_that_gossip_loses_is_told_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "REPEAT_SECONDS", (0.05, 0.05, 0.05))
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a", lost=3) as (_, device, speaker):
        speaker.listener = listener
        await device.onboard(OFFER)
        async with asyncio.timeout(120):
            await listener.reached.wait()
        assert [ad.peer_id for ad in known.advertisements() if ad.offering.online] == [speaker.peer_id]


async def test_that_a_device_left_is_told_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "REPEAT_SECONDS", (0.05, 0.05, 0.05))
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a") as (_, device, speaker):
        speaker.listener = listener
        await device.onboard(OFFER)
        async with asyncio.timeout(120):
            await listener.reached.wait()
            speaker.lost = 2
            await device.offboard(forced=False)
            while any(ad.offering.onboarded for ad in known.advertisements()):
                listener.reached.clear()
                await listener.reached.wait()


async def test_a_neighbour_that_gossip_never_reaches_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "ASK_SECONDS", 0.05)
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a") as (_, device, speaker):
        await device.onboard(OFFER)
        listener.neighbour = speaker  # the connection is there, no message of the gossip comes
        async with asyncio.timeout(120):
            while not any(ad.offering.online for ad in known.advertisements()):
                await asyncio.sleep(0.01)
