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
from dms.application.device.device import DeviceService
from dms.application.network import directory as directory_module
from dms.application.network.availability import AvailabilityNews
from dms.application.network.directory import Directory
from dms.application.network.messages import encode
from dms.application.ports import GossipHandler, PeerInfo, RequestHandler
from dms.domain.device import Offer
from dms.domain.directory import Advertisement, Provider, SignedAdvertisement, clock_text
from tests.fixtures.disks import broken_disk
from tests.fixtures.waiting import wait_for
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
        self.came = asyncio.Event()
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
            self.listener.came.set()


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
        news = AvailabilityNews(log, directory.stir)
        await news.start()
        closing.push_async_callback(news.close)
        yield directory, device, network


async def test_an_offer_that_gossip_loses_is_told_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "REPEAT_SECONDS", (0.05, 0.05, 0.05))
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a", lost=3) as (_, device, speaker):
        speaker.listener = listener
        await device.onboard(OFFER)
        async with asyncio.timeout(120):
            await listener.came.wait()
        assert [ad.peer_id for ad in known.advertisements() if ad.offering.online] == [speaker.peer_id]


async def test_that_a_device_left_is_told_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "REPEAT_SECONDS", (0.05, 0.05, 0.05))
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a") as (_, device, speaker):
        speaker.listener = listener
        await device.onboard(OFFER)
        async with asyncio.timeout(120):
            await listener.came.wait()
            speaker.lost = 2
            await device.offboard(forced=False)
            while any(ad.offering.onboarded for ad in known.advertisements()):
                listener.came.clear()
                await listener.came.wait()


@pytest.mark.parametrize(("behind", "text"), [(180, "180 s behind ours"), (-400, "400 s ahead of ours")])
async def test_a_provider_whose_clock_is_another_is_named_for_it(tmp_path: Path, behind: int, text: str) -> None:
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a") as (late, device, speaker):
        await device.onboard(OFFER)
        late._now = lambda: time.time_ns() // 1000 - behind * 1_000_000
        listener._handler(speaker.peer_id, encode(late._sign(late.own())))  # type: ignore[misc]
        assert known.advertisements() == []
        ((peer_id, seconds),) = known.other_clocks().items()
        assert peer_id == speaker.peer_id
        assert text in clock_text(seconds)
        # The same said by another is only old news, or a lie.
        known._clocks.clear()
        listener._handler("12D3KooWAnother", encode(late._sign(late.own())))  # type: ignore[misc]
        assert known.other_clocks() == {}
        late._now = lambda: time.time_ns() // 1000
        listener._handler(speaker.peer_id, encode(late._sign(late.own())))  # type: ignore[misc]
        await wait_for(known.advertisements)  # it counts once the log has it
        assert [ad.peer_id for ad in known.advertisements()] == [speaker.peer_id]


async def test_nobody_is_chosen_whom_the_log_could_not_take_until_it_has(tmp_path: Path) -> None:
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a") as (teller, device, speaker):
        await device.onboard(OFFER)
        with broken_disk(known._log):  # type: ignore[arg-type]
            listener._handler(speaker.peer_id, encode(teller._sign(teller.own())))  # type: ignore[misc]
            await wait_for(lambda: known._log.trouble)
            assert known._table.keys() == {speaker.peer_id}
            assert known.offers.get(speaker.peer_id) is None
            assert known.advertisements() == []
        listener._handler(speaker.peer_id, encode(teller._sign(teller.own())))  # type: ignore[misc]  # its renewal
        await wait_for(known.advertisements)
        recorded = known._log.load(Provider, speaker.peer_id)
        assert recorded is not None
        assert recorded.offering == known.advertisements()[0].offering


async def test_pages_of_the_table_and_its_end_hold_for_many(tmp_path: Path) -> None:
    """Each entry once, in order, with the own one in its place; and they go when their time is over."""
    async with member(tmp_path, "b") as (known, device, network), member(tmp_path, "a") as (other, _, reader):
        await device.onboard(OFFER)
        offering, now = known.own().offering, time.time_ns() // 1000
        for number in range(350):
            author = Identity.generate()
            made = Advertisement(
                peer_id=author.peer_id, addresses=(), sequence=now, expires_at=now + 60_000_000 + number,
                offering=offering,
            )  # fmt: skip
            body = encode(made)
            known._take(
                author.peer_id, SignedAdvertisement(body=body.decode(), signature=author.sign(body).hex())
            )  # fmt: skip
        reader.neighbour = network
        await other._fetch(network.peer_id, own=False)
        await wait_for(lambda: len(other.offers) == 351)
        assert [ad.peer_id for ad in other.advertisements()] == sorted([*known._ids, network.peer_id])
        other._now = lambda: now + 60_000_000 + 100
        gone = []
        while (peer_id := other._next_expired()) is not None:
            other._drop(peer_id)
            gone.append(peer_id)
        assert len(gone) == 101
        assert len(other.offers) == len(other._table) == len(other._ids) == 250


async def test_a_neighbour_that_gossip_never_reaches_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "ASK_SECONDS", 0.05)
    async with member(tmp_path, "b") as (known, _, listener), member(tmp_path, "a") as (_, device, speaker):
        await device.onboard(OFFER)
        listener.neighbour = speaker  # the connection is there, no message of the gossip comes
        async with asyncio.timeout(120):
            while not any(ad.offering.online for ad in known.advertisements()):
                await asyncio.sleep(0.01)
