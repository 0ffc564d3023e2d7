"""Strangers that ask too much, over real libp2p: what a node keeps is bounded, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from dms.adapters.p2p import identity as keys
from dms.adapters.p2p.inbound import InboundLimits
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.files import transfers
from dms.application.network import ad_space
from dms.application.network.budgets import (
    ADVERTISEMENTS,
    BUDGETS,
    DEPLOYMENTS,
    EVENT_BYTES,
    IMAGE_LOOK_UPS,
    RECORDS,
    SNAPSHOTS,
    Budget,
    Rate,
)
from dms.application.ports.images import ImageFound
from dms.application.tasks import cancelled
from dms.config import Strangers
from dms.daemon import Daemon
from dms.domain.deployment import Deployment, Fault
from dms.domain.device_policy import DevicePolicy, Lists
from dms.domain.job import Job, JobState
from dms.errors import Conflict, Unavailable
from tests.fixtures.flood_kinds import FLOODS, OVERHEAD, WIDE, served
from tests.fixtures.flood_kinds import REST_BYTES as REST
from tests.fixtures.floods import LOCAL, SECONDS, Peer, Provider, Target, log_bytes, peers, submitted, victim
from tests.fixtures.waiting import wait_for
from tests.integration.cancellation.world import OFFER
from tests.integration.http.node import now_us

KIB = 1024
FLOOD_SECONDS = 2.0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with victim(tmp_path / "victim") as running:
        yield running


def small(monkeypatch: pytest.MonkeyPatch, kind: str, peer: float, together: float) -> None:
    """A budget that does not fill again while a test runs."""
    found = BUDGETS[kind]
    narrow = msgspec.structs.replace(found, stranger=Rate(peer, 0.001), strangers=Rate(together, 0.001))
    monkeypatch.setitem(BUDGETS, kind, narrow)


async def test_deployment_requests_are_answered_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, DEPLOYMENTS, 256 * KIB, 512 * KIB)
    async with victim(tmp_path) as node, peers(node, 2) as (flooding, honest):
        before = log_bytes(node)
        answers, (answer,) = await asyncio.gather(
            flooding.request_deployments(60, 100_000), honest.request_deployments(1, 0)
        )
        assert isinstance(answer, Conflict)
        assert str(answer) == "the provider is not onboarded"
        refused = [one for one in answers if isinstance(one, Unavailable)]
        assert len(refused) == 58, "the budget holds two"
        assert "no more deployment requests of you" in str(refused[0])
        assert log_bytes(node) - before < 256 * KIB * OVERHEAD + REST, "6 MB were sent"
        text = (await node.services.metrics.render("", {}, {}))[0].decode()
        assert 'dms_over_budget_total{kind="deployment requests",of="stranger"} 58.0' in text


async def test_fresh_identities_share_a_budget_and_known_peers_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, DEPLOYMENTS, 256 * KIB, 384 * KIB)
    async with victim(tmp_path) as node, peers(node, 5) as (friend, *fresh):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(friend.peer_id,))))
        before = log_bytes(node)
        floods = [await one.request_deployments(4, 100_000) for one in fresh]
        assert sum(isinstance(one, Conflict) for flood in floods for one in flood) == 3
        assert (await friend.request_deployment()).reason == "the provider is not onboarded"
        assert log_bytes(node) - before < 384 * KIB * OVERHEAD + REST, "1.6 MB were sent"


async def test_an_advertisement_that_changes_all_the_time_is_recorded_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, ADVERTISEMENTS, 64 * KIB, 512 * KIB)
    async with victim(tmp_path) as node, peers(node, 2) as (flooding, honest):
        directory, before = node.services.directory, log_bytes(node)

        async def known_of(peer: Peer) -> None:
            """Gossip does not reach who has just come."""
            async with asyncio.timeout(SECONDS):
                while directory.offers.get(peer.peer_id) is None:
                    await peer.advertise()
                    await asyncio.sleep(0.1)

        await known_of(flooding)
        for number in range(300):
            await flooding.advertise([f"{number}", *WIDE])
        await known_of(honest)
        await wait_for(lambda: f'"{299}"' in directory.signed(flooding.peer_id).body)
        assert log_bytes(node) - before < 64 * KIB * OVERHEAD + REST, "4.5 MB were heard"


async def test_what_is_over_the_budget_is_recorded_later_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, ADVERTISEMENTS, 3 * KIB, 512 * KIB)
    async with victim(tmp_path) as node, peers(node) as (busy,):
        directory, budgets = node.services.directory, BUDGETS[ADVERTISEMENTS]
        for number in range(5):
            directory.hear(busy.peer_id, busy.advertisement([f"{number}"]))

        def recorded() -> tuple[str, ...] | None:
            row = directory.offers.get(busy.peer_id)
            return row.offering.features if row is not None else None

        await wait_for(lambda: recorded() is not None)
        assert budgets.stranger.burst == 3 * KIB
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(busy.peer_id,))))  # more for it
        await wait_for(lambda: recorded() == ("4",))


async def test_made_up_providers_take_a_bounded_part_of_the_table_and_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, SNAPSHOTS, 128 * KIB, 512 * KIB)
    monkeypatch.setattr(ad_space, "MOST_OF_A_STRANGER", 256 * KIB)
    async with victim(tmp_path) as node, peers(node, 2) as (flooding, honest):
        directory, before = node.services.directory, log_bytes(node)
        made_up = flooding.make_up_providers(100, WIDE)
        await directory._snapshots.fetch(flooding.peer_id, own=False)
        honest.make_up_providers(1, [])
        await directory._snapshots.fetch(honest.peer_id, own=False)
        directory.hear(honest.peer_id, honest.advertisement())
        await wait_for(lambda: directory.offers.get(honest.peer_id) is not None)
        kept = [ad.peer_id for ad in directory.advertisements()]
        assert 0 < len(set(kept) & set(made_up)) <= 17
        assert directory._space.held_bytes < 256 * KIB + 8 * KIB
        assert log_bytes(node) - before < 128 * KIB * OVERHEAD + REST, "1.5 MB were sent"


async def test_an_advertisement_is_taken_up_to_a_size(node: Daemon) -> None:
    async with peers(node) as (stranger,):
        node.services.directory.hear(stranger.peer_id, stranger.advertisement(["x" * 256] * 64))
        assert node.services.directory.addresses_of(stranger.peer_id) == ()
        assert node.services.directory.advertisements() == []


async def ends(node: Daemon, job_id: str) -> None:
    def is_over() -> bool:
        job = node.services.log.load(Job, job_id)
        return job is not None and job.state is JobState.FAILED

    await wait_for(is_over)


async def test_a_provider_that_repeats_an_event_is_read_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        BUDGETS,
        RECORDS,
        Budget(
            unit="bytes",
            known=Rate(128 * KIB, 0.001),
            stranger=Rate(128 * KIB, 0.001),
            strangers=BUDGETS[RECORDS].strangers,
            total=BUDGETS[RECORDS].total,
        ),
    )
    repeated = Deployment.FundingPending(reason="x" * 4000, until=now_us() + 10**12)
    async with victim(tmp_path / "victim") as node, peers(node, 2) as (bad, good):
        bad.network.add_addresses(node.parts.host.peer_id, node.parts.host.listen_addresses)
        flooding = Provider(tmp_path, bad, [repeated] * 500)
        honest = Provider(tmp_path, good, [Deployment.Rejected(reason="no room", fault=Fault.PROVIDER)])
        for provider in (flooding, honest):
            await provider.start()
            node.parts.host.add_addresses(provider.peer.peer_id, provider.peer.network.listen_addresses)
        log, before = node.services.log, log_bytes(node)
        first = await submitted(node, bad.peer_id)

        def taken() -> int:
            job = log.load(Job, first)
            assert job is not None
            return job.provider_version

        await wait_for(lambda: taken() >= 10)
        for _ in range(5):  # meanwhile all 500 would have come
            await ends(node, await submitted(node, good.peer_id))
        assert taken() < 128 * KIB / (4000 + EVENT_BYTES) + 2, "500 were sent"
        assert log_bytes(node) - before < 128 * KIB * OVERHEAD * 2 + REST, "2.5 MB were sent"
        for provider in (flooding, honest):
            await provider.close()


async def test_offers_of_fresh_identities_leave_room_for_those_of_known_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "OPEN_AT_ONCE", 12)
    monkeypatch.setattr(transfers, "WAITING_OF_STRANGERS", 8)
    async with victim(tmp_path) as node, peers(node, 4) as (friend, *fresh):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(friend.peer_id,))))
        answers = [await one.offer_files(5) for one in fresh]
        assert all(isinstance(answer, Conflict) for answer in answers[-1])
        assert len(node.services.transfers.waiting()) == 8
        (answer,) = await friend.offer_files(1)
        assert isinstance(answer, bytes)


async def test_chats_of_fresh_identities_leave_room_for_that_of_a_known_peer(node: Daemon) -> None:
    async with peers(node, 4) as (friend, *fresh):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(friend.peer_id,))))
        chats = node.services.chats
        for stranger in fresh:
            stranger.begin_chat()
        await wait_for(lambda: len(chats.waiting()) == 2)
        await wait_for(lambda: sum(stranger.chat_is_over() for stranger in fresh) == 1)
        friend.begin_chat()
        await wait_for(lambda: friend.peer_id in [chat.peer_id for chat in chats.waiting()])


async def test_a_strangers_word_for_a_payment_is_not_taken_and_it_is_told_before_it_pays(node: Daemon) -> None:
    await node.services.device.onboard(OFFER)
    async with peers(node, 2) as (friend, stranger):
        with pytest.raises(Conflict, match="looks up no payments") as refused:
            await stranger.request_deployment()
        preflights = await stranger.preflight()
        assert (preflights.possible, preflights.kind, preflights.reason) == (False, "payment", str(refused.value))
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(friend.peer_id,))))
        assert (await friend.preflight()).possible


async def test_strangers_have_few_images_looked_up_and_known_peers_as_many_as_they_ask_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, IMAGE_LOOK_UPS, 2, 3)
    async with victim(tmp_path, strangers=Strangers(trust_payments=True)) as node, peers(node, 3) as all_peers:
        friend, *fresh = all_peers
        await node.services.device.onboard(OFFER)
        allowed = Counter[str]()

        async def find_image(image: str, *, for_stranger: bool, may_ask: Callable[[], bool]) -> ImageFound:
            """As one whose answer is never known yet."""
            allowed["stranger" if for_stranger else "friend"] += may_ask()
            return ImageFound(present=False)

        monkeypatch.setattr(node.parts.executor, "find_image", find_image)
        for stranger in fresh:
            for _ in range(4):
                assert (await stranger.preflight()).possible
        assert allowed == {"stranger": 3}
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(friend.peer_id,))))
        for _ in range(6):
            assert (await friend.preflight()).possible
        assert allowed == {"stranger": 3, "friend": 6}


async def test_a_stranger_gets_neither_the_whole_machine_nor_ten_years(tmp_path: Path) -> None:
    believing = Strangers(trust_payments=True, max_jobs=1)
    async with victim(tmp_path, strangers=believing) as node, peers(node, 2) as (friend, stranger):
        await node.services.device.onboard(OFFER)
        for asked, word in (({"time": 5_256_000}, "minutes"), ({"cpu": OFFER.cpu_mhz}, "75 %")):
            answer = await stranger.preflight(**asked)
            assert (answer.possible, answer.kind) == (False, "capacity")
            assert word in answer.reason
        assert (await stranger.preflight()).possible
        assert (await stranger.request_deployment("sleep 600")).accepted
        assert "as many jobs of this peer" in (await stranger.preflight()).reason
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(friend.peer_id,))))
        assert (await friend.preflight(cpu=OFFER.cpu_mhz - 1000)).possible
        for job_id in await node.parts.executor.list_jobs():
            await node.parts.executor.remove(job_id)


async def test_silent_connections_of_an_address_are_closed_before_a_handshake() -> None:
    limits = InboundLimits(of_loopback=8, handshakes_of_loopback=4)
    network = Libp2pNetwork(keys.Identity.generate(), LOCAL, inbound=limits)
    network.serve_request("/test/1", echo)
    await network.start()
    port = int(network.listen_addresses[0].split("/")[4])
    try:
        silent = [await asyncio.to_thread(connect, port) for _ in range(40)]
        await wait_for(lambda: network.refused_connections() == 36)
        friend = Libp2pNetwork(keys.Identity.generate(), LOCAL)
        await friend.start()  # from 127.0.0.1
        friend.add_addresses(network.peer_id, network.listen_addresses)
        assert await friend.request(network.peer_id, "/test/1", b"1", SECONDS) == b"1"
        await friend.close()
        for one in silent:
            one.close()
        again = await asyncio.to_thread(connect, port)
        again.close()
    finally:
        await network.close()


def connect(port: int) -> socket.socket:
    """From an address that nobody else has here."""
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS, source_address=("127.0.0.2", 0))


async def echo(_peer_id: str, body: bytes) -> bytes:
    return body


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLOODS)
async def test_each_flood_is_bounded_and_others_are_served(tmp_path: Path, kind: str) -> None:
    """For a moment. `python -m ops.bench floods` does the same for a minute, and measures the memory too."""
    flood, known = FLOODS[kind], keys.Identity.generate()
    strangers = Strangers(trust_payments=flood.trusting)
    async with victim(tmp_path / "victim", known=known.peer_id, strangers=strangers) as node:
        if flood.trusting:
            await node.services.device.onboard(OFFER)
        target, honest = Target.of(node), Peer(Target.of(node), known)
        await honest.start()

        async def begin(peer_id: str, addresses: tuple[str, ...]) -> None:
            node.parts.host.add_addresses(peer_id, addresses)
            await submitted(node, peer_id)

        before = log_bytes(node)
        flooding = asyncio.create_task(flood.run(target, tmp_path, begin))
        try:
            assert await served(honest, FLOOD_SECONDS)
            assert not flooding.done()
        finally:
            await cancelled(flooding)
            await honest.close()
        assert log_bytes(node) - before < flood.most_bytes(FLOOD_SECONDS)
