"""The table of advertisements over a network that loses messages: the real log, and gossip that is a list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.p2p.identity import Identity
from dms.application.device.device import DeviceService
from dms.application.network import ad_snapshots, own_advertisement
from dms.application.network.availability import AvailabilityNews
from dms.application.network.budgets import Budgets
from dms.application.network.directory import Directory
from dms.application.network.messages import Snapshot, encode
from dms.application.network.own_advertisement import OwnAdvertisement
from dms.application.ports.peers import GossipHandler, PeerInfo, RequestHandler
from dms.clock import machine_clock
from dms.domain.device import Offer
from dms.domain.directory import LIFETIME_SECONDS, Advertisement, Provider, SignedAdvertisement, clock_text
from dms.domain.run_time import Instant
from dms.errors import LogUnavailable
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


class Clock:
    """The machine's, until a test moves it. wall: seconds that its wall clock is ahead; boot: the other one."""

    def __init__(self) -> None:
        self.wall = self.boot = 0.0

    def __call__(self) -> Instant:
        true = machine_clock()
        return Instant(true.boot_id, true.boot_us + int(self.boot * 1e6), true.wall_us + int(self.wall * 1e6))


class Member:
    def __init__(self, log: SQLiteEventLog, identity: Identity, network: Gossip) -> None:
        self.log, self.clock, self.network, self.peer_id = log, Clock(), network, identity.peer_id
        self.device = DeviceService(log, FixedHardware(), identity.peer_id)
        self.own = OwnAdvertisement(log, self.device, network, identity, lambda: self.clock().wall_us)
        self.directory = Directory(log, self.device, network, identity, self.own, self.clock, Budgets(lambda _: False))

    async def hear_of(self, teller: Member, through: str = "") -> None:
        """What another says of itself just now. through: who passes it on."""
        assert self.network._handler is not None
        self.network._handler(through or teller.peer_id, encode(await teller.own.signed()))

    def online(self) -> list[str]:
        return [ad.peer_id for ad in self.directory.advertisements() if ad.offering.online]


@asynccontextmanager
async def member(folder: Path, name: str, lost: int = 0) -> AsyncIterator[Member]:
    async with AsyncExitStack() as closing:
        log = SQLiteEventLog(folder / f"{name}.db", lambda: time.time_ns() // 1000)
        await log.start()
        closing.push_async_callback(log.close)
        identity = Identity.load_or_create(folder / f"{name}.key")
        made = Member(log, identity, Gossip(identity.peer_id, lost))
        made.directory.serve()
        news = AvailabilityNews(log, made.own.stir)
        for part in (made.directory, made.own, news):
            await part.start()
            closing.push_async_callback(part.close)
        yield made


async def test_an_offer_that_gossip_loses_is_told_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_advertisement, "REPEAT_SECONDS", (0.05, 0.05, 0.05))
    async with member(tmp_path, "b") as listener, member(tmp_path, "a", lost=3) as speaker:
        speaker.network.listener = listener.network
        await speaker.device.onboard(OFFER)
        async with asyncio.timeout(120):
            await listener.network.came.wait()
        assert listener.online() == [speaker.peer_id]


async def test_that_a_device_left_is_told_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_advertisement, "REPEAT_SECONDS", (0.05, 0.05, 0.05))
    async with member(tmp_path, "b") as listener, member(tmp_path, "a") as speaker:
        speaker.network.listener = listener.network
        await speaker.device.onboard(OFFER)
        async with asyncio.timeout(120):
            await listener.network.came.wait()
            speaker.network.lost = 2
            await speaker.device.offboard(forced=False)
            while any(ad.offering.onboarded for ad in listener.directory.advertisements()):
                listener.network.came.clear()
                await listener.network.came.wait()


@pytest.mark.parametrize(("behind", "text"), [(180, "180 s behind ours"), (-400, "400 s ahead of ours")])
async def test_a_provider_whose_clock_is_another_is_named_for_it(tmp_path: Path, behind: int, text: str) -> None:
    async with member(tmp_path, "b") as listener, member(tmp_path, "a") as late:
        await late.device.onboard(OFFER)
        known = listener.directory
        late.clock.wall = -behind
        await listener.hear_of(late)
        assert known.advertisements() == []
        ((peer_id, seconds),) = known.other_clocks().items()
        assert peer_id == late.peer_id
        assert text in clock_text(seconds)
        # The same said by another is only old news, or a lie.
        known._clocks.clear()
        await listener.hear_of(late, through="12D3KooWAnother")
        assert known.other_clocks() == {}
        late.clock.wall = 0
        await listener.hear_of(late)
        await wait_for(known.advertisements)  # it counts once the log has it
        assert known.other_clocks() == {}
        assert listener.online() == [late.peer_id]


@pytest.mark.parametrize("step", [3_600, 5 * 86_400, -3_600, -5 * 86_400])
async def test_a_step_of_the_wall_clock_ends_nobodys_word_and_keeps_none(tmp_path: Path, step: int) -> None:
    """It was found valid when it came: from then on it lasts as long as it said, by the clock that nobody sets."""
    async with member(tmp_path, "b") as listener, member(tmp_path, "a") as speaker:
        await speaker.device.onboard(OFFER)
        await listener.hear_of(speaker)
        await wait_for(listener.online)
        listener.clock.wall = step
        await listener.directory._expire()
        assert listener.online() == [speaker.peer_id]
        listener.clock.boot = LIFETIME_SECONDS + 1
        await listener.directory._expire()
        assert listener.directory.advertisements() == []
        recorded = await listener.log.read(0, 10, topics=(Provider.Lost.TOPIC,))
        assert [one.key for one in recorded] == [speaker.peer_id]


async def test_what_is_told_after_the_clock_was_set_back_a_little_is_newer_all_the_same(tmp_path: Path) -> None:
    async with member(tmp_path, "b") as listener, member(tmp_path, "a") as speaker:
        await speaker.device.onboard(OFFER)
        await listener.hear_of(speaker)
        await wait_for(listener.online)
        speaker.clock.wall = -60
        await speaker.device.set_available(False)
        await listener.hear_of(speaker)
        await wait_for(lambda: listener.directory.advertisements() and not listener.online())


async def test_nobody_is_chosen_whom_the_log_could_not_take_until_it_has(tmp_path: Path) -> None:
    async with member(tmp_path, "b") as listener, member(tmp_path, "a") as teller:
        await teller.device.onboard(OFFER)
        known = listener.directory
        with broken_disk(listener.log):
            await listener.hear_of(teller)
            await wait_for(lambda: listener.log.trouble)
            assert known._table.keys() == {teller.peer_id}
            assert known.offers.get(teller.peer_id) is None
            assert known.advertisements() == []
        await listener.hear_of(teller)  # its renewal
        await wait_for(known.advertisements)
        recorded = listener.log.load(Provider, teller.peer_id)
        assert recorded is not None
        assert recorded.offering == known.advertisements()[0].offering


async def test_what_is_decided_is_told_to_nobody_before_it_is_on_the_disk(tmp_path: Path) -> None:
    async with member(tmp_path, "a") as teller:
        await teller.device.onboard(OFFER)
        before = (await teller.own.made()).offering
        with broken_disk(teller.log):
            deciding = asyncio.create_task(teller.device.change_resources(5000, 9000))
            await asyncio.sleep(0)
            assert teller.device.state.offered.cpu_mhz == 5000  # decided, and not written yet
            told = (await teller.own.made()).offering
            with pytest.raises(LogUnavailable):
                await deciding
        assert told.offered == before.offered
        await teller.log.try_to_write()
        await teller.device.change_resources(5000, 9000)
        assert (await teller.own.made()).offering.offered.cpu_mhz == 5000


async def test_who_moves_to_another_channel_is_told_of_there_and_sees_whom_it_finds_there(tmp_path: Path) -> None:
    async with member(tmp_path, "b") as listener, member(tmp_path, "a") as speaker:
        await speaker.device.onboard(msgspec.structs.replace(OFFER, channel="nunet-team"))
        await listener.hear_of(speaker)
        assert listener.online() == []
        await listener.device.onboard(msgspec.structs.replace(OFFER, channel="nunet-team"))
        await wait_for(listener.online)
        await listener.device.onboard(OFFER)
        await wait_for(lambda: not listener.online())
        await listener.hear_of(speaker)
        assert listener.online() == []


async def test_pages_of_the_table_and_its_end_hold_for_many(tmp_path: Path) -> None:
    """Each entry once, in order, with the own one in its place; and they go when their time is over."""
    async with member(tmp_path, "b") as full, member(tmp_path, "a") as reader:
        await full.device.onboard(OFFER)
        known, other = full.directory, reader.directory
        offering, now = (await full.own.made()).offering, full.clock().wall_us
        for number in range(350):
            author = Identity.generate()
            made = Advertisement(
                peer_id=author.peer_id, addresses=(), sequence=now,
                expires_at=now + (60_000_000 if number < 101 else 120_000_000), offering=offering,
            )  # fmt: skip
            body = encode(made)
            known._take(author.peer_id, SignedAdvertisement(body=body.decode(), signature=author.sign(body).hex()))
        reader.network.neighbour = full.network
        await other._snapshots.fetch(full.peer_id, own=False)
        await wait_for(lambda: len(other.offers) == 351)
        assert [ad.peer_id for ad in other.advertisements()] == sorted([*known._ids, full.peer_id])
        reader.clock.boot = 60.0
        gone = []
        while (peer_id := other._next_ended()) is not None:
            other._drop(peer_id)
            gone.append(peer_id)
        assert len(gone) == 101
        assert len(other.offers) == len(other._table) == len(other._ids) == 250


class EndlessTable:
    """There is always another page. signed: each has one entry that its author signed."""

    def __init__(self, model: Advertisement, *, signed: bool) -> None:
        self.peer_id = Identity.generate().peer_id
        self._model, self._signed, self.pages = model, signed, 0

    async def answer(self, _peer_id: str, _body: bytes) -> bytes:
        self.pages += 1
        author = Identity.generate()
        name = author.peer_id if self._signed else f"z{self.pages:09}"
        body = encode(msgspec.structs.replace(self._model, peer_id=name))
        signature = author.sign(body).hex() if self._signed else "00" * 64
        entry = SignedAdvertisement(body=body.decode(), signature=signature)
        last = encode(msgspec.structs.replace(self._model, peer_id=f"z{self.pages:09}")).decode()
        return encode(Snapshot(advertisements=(entry, SignedAdvertisement(body=last, signature="00")), more=True))


@pytest.mark.parametrize(("signed", "pages"), [(False, 1), (True, 50)])
async def test_a_table_without_an_end_is_not_read_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: bool, pages: int
) -> None:
    monkeypatch.setattr(ad_snapshots, "MOST_PAGES", 50)
    async with member(tmp_path, "a") as reader:
        endless = EndlessTable(await reader.own.made(), signed=signed)
        reader.network.neighbour = Gossip(endless.peer_id)
        reader.network.neighbour.serve_request("", endless.answer)
        await reader.directory._snapshots.fetch(endless.peer_id, own=False)
        assert endless.pages == pages


async def test_a_table_that_comes_too_slowly_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ad_snapshots, "TABLE_SECONDS", 0.1)
    async with member(tmp_path, "a") as reader:
        endless = EndlessTable(await reader.own.made(), signed=True)
        reader.network.neighbour = Gossip(endless.peer_id)

        async def slowly(peer_id: str, body: bytes) -> bytes:
            await asyncio.sleep(0.02)
            return await endless.answer(peer_id, body)

        reader.network.neighbour.serve_request("", slowly)
        async with asyncio.timeout(60):
            await reader.directory._snapshots.fetch(endless.peer_id, own=False)


async def test_a_neighbour_that_gossip_never_reaches_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ad_snapshots, "ASK_SECONDS", 0.05)
    async with member(tmp_path, "b") as listener, member(tmp_path, "a") as speaker:
        await speaker.device.onboard(OFFER)
        listener.network.neighbour = speaker.network  # the connection is there, no message of the gossip comes
        await wait_for(listener.online)
