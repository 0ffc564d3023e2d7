"""Which of the candidates gets a job: who is known to be there needs no ping, who is slow or gone is told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from dms.adapters.p2p.identity import Identity
from dms.application.jobs import provider_search
from dms.application.network.messages import PREFLIGHT, PreflightAnswer, encode
from dms.application.ports.peers import Heard
from dms.domain.device import Offer
from dms.domain.directory import Offering
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.errors import DmsError, NoProviderMatches, PeerMisbehaved, PeerSlow, PeerUnreachable, ProtocolRefused
from tests.integration.http.node import ADDRESS, REQUEST, SERVICE_BODY, LonelyNetwork, Node, running_node

NEAR, FAR, SILENT, GONE = (Identity.generate().peer_id for _ in range(4))


class Line(LonelyNetwork):
    """Peers that were heard of, that answer a ping (after seconds), are slow, or are not there."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self.kept: dict[str, Heard] = {}
        self.answers: dict[str, float] = {}
        self.slow: set[str] = set()
        self.odd: dict[str, DmsError] = {}
        self.pings: list[str] = []

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        """Who is there can take whatever job."""
        assert protocol == PREFLIGHT
        return encode(PreflightAnswer(possible=True, hold_seconds=600))

    def heard(self, peer_id: str) -> Heard | None:
        return self.kept.get(peer_id)

    async def ping(self, peer_id: str, timeout_seconds: float) -> float:
        self.pings.append(peer_id)
        if peer_id in self.odd:
            raise self.odd[peer_id]
        if peer_id in self.slow:
            raise PeerSlow(f"Peer {peer_id} did not answer within {timeout_seconds:g} s.")
        if peer_id not in self.answers:
            raise PeerUnreachable(f"Peer {peer_id} can't be dialled.")
        await asyncio.sleep(self.answers[peer_id])
        return self.answers[peer_id]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, make_network=Line) as running:
        await running.services.device.onboard(
            Offer(
                cpu_mhz=4000, memory_mb=8000, channel="nunet-test", payment_address=ADDRESS, blockchain="Cardano",
                ntx_price=Decimal(0), hostname="node",
            )
        )  # fmt: skip
        yield running


def line_of(node: Node) -> Line:
    network = node.services.network
    assert isinstance(network, Line)
    return network


def offer(node: Node, **prices: str) -> None:
    room = Resources(cpu_mhz=4000, memory_mb=8000)
    ids = {"near": NEAR, "far": FAR, "silent": SILENT, "gone": GONE}
    for name, price in prices.items():
        node.services.directory.offers.put(
            ids[name], Offering(channel="nunet-test", online=True, onboarded=True, offered=room, ntx_price=price)
        )


async def test_who_was_heard_of_gets_the_job_without_a_ping_also_with_fifty_requests(node: Node) -> None:
    offer(node, near="0", far="0")
    line_of(node).kept = {NEAR: Heard(9.0, 0.7), FAR: Heard(1.0, 2.5)}
    service = node.services.service_provider
    quotes = await asyncio.gather(*(service.request_service(REQUEST) for _ in range(50)))
    assert {quote.compute_provider_id for quote in quotes} == {NEAR}  # the nearer of two that cost the same
    assert line_of(node).pings == []


async def test_a_dry_run_tells_whom_a_request_would_get_and_leaves_no_trace(node: Node) -> None:
    offer(node, near="5", far="1", gone="0")
    line_of(node).kept = {NEAR: Heard(1.0, 0.001), FAR: Heard(1.0, 0.25)}
    before = node.log.head
    async with node.client() as client:
        answer = await client.post("/api/v1/run/request-service/dry-run", json=SERVICE_BODY)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["compute_provider_id"], told["estimated_price"]) == (FAR, 1.0)
    candidates = {
        one["peer_id"]: (one["chosen"], one["round_trip_ms"], bool(one["trouble"])) for one in told["candidates"]
    }
    assert candidates == {FAR: (True, 250.0, False), NEAR: (False, 1.0, False), GONE: (False, None, True)}
    assert node.log.head == before


async def test_the_cheaper_is_chosen_though_it_must_be_pinged_and_once_for_all(node: Node) -> None:
    offer(node, near="5", far="1")
    line_of(node).kept = {NEAR: Heard(1.0, 0.001), FAR: Heard(1000.0, 0.1)}  # one was not heard of for long
    line_of(node).answers = {FAR: 0.3}
    service = node.services.service_provider
    quotes = await asyncio.gather(*(service.request_service(REQUEST) for _ in range(10)))
    assert {quote.compute_provider_id for quote in quotes} == {FAR}
    assert line_of(node).pings == [FAR]


@pytest.mark.parametrize("error", [ProtocolRefused("Peer X does not speak ping."), PeerMisbehaved("nonsense")])
async def test_one_that_refuses_its_ping_spoils_nothing_for_the_others(node: Node, error: DmsError) -> None:
    offer(node, near="5", far="1")
    line_of(node).odd = {FAR: error}
    line_of(node).answers = {NEAR: 0.0}
    quote = await node.services.service_provider.request_service(REQUEST)
    assert quote.compute_provider_id == NEAR
    line_of(node).odd[NEAR] = error
    with pytest.raises(NoProviderMatches, match=f"can't be pinged: {error}"):
        await node.services.service_provider.request_service(REQUEST)


async def test_a_slow_link_gets_its_time_while_nobody_else_is_there(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_search, "SOON_SECONDS", 0.05)
    offer(node, far="1", gone="0")
    line_of(node).answers = {FAR: 0.5}
    quote = await node.services.service_provider.request_service(REQUEST)
    assert quote.compute_provider_id == FAR


async def test_nobody_waits_long_for_others_once_one_is_there(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_search, "SOON_SECONDS", 0.05)
    offer(node, near="5", far="1")
    line_of(node).kept = {NEAR: Heard(1.0, 0.001)}
    line_of(node).answers = {FAR: 3600}
    async with asyncio.timeout(120):
        quote = await node.services.service_provider.request_service(REQUEST)
    assert quote.compute_provider_id == NEAR


async def test_slow_and_gone_and_silent_are_told_apart(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_search, "PATIENCE_SECONDS", 0.2)
    offer(node, far="0", silent="0", gone="0")
    line_of(node).slow = {FAR}
    line_of(node).answers = {SILENT: 3600}
    with pytest.raises(NoProviderMatches) as refused:
        await node.services.service_provider.request_service(REQUEST)
    said = str(refused.value)
    assert f"{FAR} is connected, but slow" in said
    assert f"{GONE} can't be reached" in said
    assert f"{SILENT} did not answer within" in said


async def test_a_provider_with_another_clock_is_named_also_in_the_record(node: Node) -> None:
    node.services.directory._clocks[GONE] = 180, node.services.directory.now()
    with pytest.raises(NoProviderMatches, match="its clock is 180 s behind ours"):
        await node.services.service_provider.request_service(REQUEST)
    offer(node, near="0")
    line_of(node).kept = {NEAR: Heard(1.0, 0.001)}
    quote = await node.services.service_provider.request_service(REQUEST)
    (first, *_) = await node.log.read(0, 10, stream=f"job-{quote.job_id}")
    assert isinstance(first.event, Job.ServiceRequested)
    assert ["behind ours" in refusal.reason for refusal in first.event.refused] == [True]
    assert first.event.refused_count == 1


async def test_what_is_recorded_of_many_refusals_is_bounded(node: Node) -> None:
    room = Resources(cpu_mhz=1, memory_mb=1)
    for number in range(5000):
        node.services.directory.offers.put(
            f"p{number}", Offering(channel="nunet-test", online=True, onboarded=True, offered=room)
        )
    offer(node, near="9")
    line_of(node).kept = {NEAR: Heard(1.0, 0.001)}
    quote = await node.services.service_provider.request_service(REQUEST)
    (first, *_) = await node.log.read(0, 10, stream=f"job-{quote.job_id}")
    assert isinstance(first.event, Job.ServiceRequested)
    assert (len(first.event.refused), first.event.refused_count) == (20, 5000)


async def test_what_a_job_needs_of_the_network_is_refused_before_payment_and_recorded(node: Node) -> None:
    offer(node, near="0", far="0.0001")
    line_of(node).kept = {NEAR: Heard(1.0, 0.1), FAR: Heard(1.0, 0.1)}
    service, offers = node.services.service_provider, node.services.directory.offers
    params = msgspec.structs.replace(REQUEST.params, model_url="https://example.org/train.py")
    fetching = msgspec.structs.replace(REQUEST, params=params)
    with pytest.raises(NoProviderMatches, match="gives jobs no internet"):
        await service.request_service(fetching)
    row = offers.get(FAR)
    assert row is not None
    offers.put(FAR, msgspec.structs.replace(row.offering, features=("internet",)))
    quote = await service.request_service(fetching)
    job = node.log.load(Job, quote.job_id)
    assert job is not None
    assert quote.compute_provider_id == FAR
    event = next(e.event for e in await node.log.read(0, 100) if isinstance(e.event, Job.ServiceRequested))
    assert event.request.constraints.network == "internet"  # as it was understood, which travels to the provider
    assert {refusal.peer_id: refusal.reason for refusal in event.refused} == {NEAR: "gives jobs no internet"}
