"""Knowing a job's id gives nobody anything of the job, nor a way to shut it out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from dms.application.network.messages import (
    DEPLOYMENT_REQUEST,
    FEED,
    PREFLIGHT,
    DeploymentAnswer,
    FeedRequest,
    PreflightRequest,
    encode,
)
from dms.application.ports.images import ImageFound
from dms.config import Strangers
from dms.daemon import Daemon
from dms.domain.deployment import Deployment
from dms.domain.device_policy import PEER_DENIED, PEER_NOT_ALLOWED, DevicePolicy, Lists
from dms.domain.event import new_id
from dms.domain.hold import EXPIRED, Hold
from dms.domain.job import Job
from dms.domain.retry import deployment_id
from dms.errors import Conflict, Forbidden, NotFound
from tests.fixtures.floods import Peer, Target, deployment_request, peers, victim
from tests.fixtures.histories import request
from tests.integration.cancellation.world import OFFER
from tests.integration.http.node import now_us


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with victim(tmp_path / "victim") as running:
        yield running


def asked(job_id: str) -> bytes:
    return encode(msgspec.structs.replace(deployment_request(0), job_id=job_id))


def quoted(job_id: str, hold_seconds: int = 300) -> bytes:
    job = deployment_request(0)
    return encode(PreflightRequest(job_id=job_id, request=job.request, price=job.price, hold_seconds=hold_seconds))


async def own_job(node: Daemon, provider: str) -> str:
    job = Job(new_id())
    job.request_service(request(), provider, "0.1", now_us() + 600_000_000, (), 0)
    await node.services.log.save(job)
    return job.key


async def fed(peer: Peer, node: Daemon, job_id: str) -> list[bytes]:
    frames = peer.network.stream(Target.of(node).peer_id, FEED, encode(FeedRequest(job_id=job_id)))
    return [frame async for frame in frames]


async def test_whoever_asks_for_a_job_of_this_nodes_own_gets_nothing_of_it_and_leaves_nothing(node: Daemon) -> None:
    async with peers(node, 2) as (provider, stranger):
        job_id = await own_job(node, provider.peer_id)
        head = node.services.log.head
        for peer in (provider, stranger):
            for taken in (job_id, deployment_id(job_id, 2)):
                for protocol, body in ((DEPLOYMENT_REQUEST, asked(taken)), (PREFLIGHT, quoted(taken))):
                    with pytest.raises(Forbidden, match="belongs to another peer"):
                        await peer.ask(protocol, body)
                with pytest.raises(NotFound):
                    await fed(peer, node, taken)
                assert node.services.log.load(Deployment, taken) is None
        assert node.services.log.head == head


async def test_a_job_whose_place_is_kept_is_its_askers_alone(node: Daemon) -> None:
    await node.services.device.onboard(OFFER)
    async with peers(node, 2) as (asker, stranger):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(asker.peer_id,))))
        job = deployment_request(0)
        await asker.ask(PREFLIGHT, quoted(job.job_id))
        hold = node.services.log.load(Hold, job.job_id)
        assert hold is not None
        assert hold.held
        for protocol, body in ((DEPLOYMENT_REQUEST, asked(job.job_id)), (PREFLIGHT, quoted(job.job_id))):
            with pytest.raises(Forbidden, match="belongs to another peer"):
                await stranger.ask(protocol, body)
        answer = msgspec.json.decode(await asker.ask(DEPLOYMENT_REQUEST, encode(job)), type=DeploymentAnswer)
        assert answer.accepted, answer.reason


async def test_a_later_attempt_of_a_job_is_its_askers_too(node: Daemon) -> None:
    """Or the stranger's deployment would be paid with the transaction of the job that runs."""
    await node.services.device.onboard(OFFER)
    async with peers(node, 2) as (asker, stranger):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(asker.peer_id, stranger.peer_id))))
        quote_only, job = new_id(), deployment_request(0)
        await asker.ask(PREFLIGHT, quoted(quote_only))
        await asker.ask(DEPLOYMENT_REQUEST, encode(job))
        for job_id in (quote_only, job.job_id):
            second = deployment_id(job_id, 2)
            for protocol, body in ((DEPLOYMENT_REQUEST, asked(second)), (PREFLIGHT, quoted(second))):
                with pytest.raises(Forbidden, match="belongs to another peer"):
                    await stranger.ask(protocol, body)
            assert node.services.log.load(Deployment, second) is None
        await asker.ask(PREFLIGHT, quoted(deployment_id(quote_only, 2)))


async def test_who_hears_of_a_job_and_is_refused_does_not_shut_it_out(node: Daemon) -> None:
    """A provider that was asked about it asks the others for it, before its owner does."""
    await node.services.device.onboard(OFFER)
    async with peers(node, 2) as (owner, asked_provider):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(owner.peer_id,))))
        first, job = new_id(), deployment_request(0)
        again = msgspec.structs.replace(deployment_request(0), job_id=deployment_id(first, 2))
        head = node.services.log.head
        for taken in (first, job.job_id, again.job_id):
            with pytest.raises(Conflict, match=PEER_NOT_ALLOWED):
                await asked_provider.ask(DEPLOYMENT_REQUEST, asked(taken))
            assert node.services.log.load(Deployment, taken) is None
        assert node.services.log.head == head
        (refused,) = node.services.refusals.newest()
        assert (refused.peer_id, refused.kind, refused.count) == (asked_provider.peer_id, "peer", 3)
        for wanted in (job, again):
            await owner.ask(PREFLIGHT, quoted(wanted.job_id))
            answer = msgspec.json.decode(await owner.ask(DEPLOYMENT_REQUEST, encode(wanted)), type=DeploymentAnswer)
            assert answer.accepted, answer.reason
            assert node.services.log.seal_key(wanted.job_id).hex() == wanted.seal_key


@pytest.mark.parametrize("hold_seconds", [300, 0])
async def test_a_refusal_of_who_was_told_yes_is_on_record_and_repeated(tmp_path: Path, hold_seconds: int) -> None:
    believing = Strangers(trust_payments=True)
    async with victim(tmp_path, strangers=believing) as node, peers(node, 2) as (friend, stranger):
        await node.services.device.onboard(OFFER)
        job_id = new_id()
        await stranger.ask(PREFLIGHT, quoted(job_id, hold_seconds))
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(friend.peer_id,))))
        first = await stranger.ask(DEPLOYMENT_REQUEST, asked(job_id))
        assert not msgspec.json.decode(first, type=DeploymentAnswer).accepted
        await node.services.device.change_policy(DevicePolicy())
        assert await stranger.ask(DEPLOYMENT_REQUEST, asked(job_id)) == first


class SlowRegistry:
    """Answers each question about an image once it may."""

    def __init__(self, node: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self._find, self.asked, self.may = node.parts.executor.find_image, asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(node.parts.executor, "find_image", self._find_image)

    async def _find_image(self, image: str, *, for_stranger: bool, may_ask: Callable[[], bool]) -> ImageFound:
        self.asked.set()
        await self.may.wait()
        return await self._find(image, for_stranger=for_stranger, may_ask=may_ask)


async def test_a_question_that_took_long_keeps_no_place_for_a_job_that_was_asked_for_meanwhile(
    node: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.services.device.onboard(OFFER)
    async with peers(node, 2) as (owner, other):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(owner.peer_id, other.peer_id))))
        job, registry = deployment_request(0, "sleep 600"), SlowRegistry(node, monkeypatch)
        questions = [asyncio.create_task(peer.ask(PREFLIGHT, quoted(job.job_id))) for peer in (owner, other)]
        await registry.asked.wait()
        await owner.ask(DEPLOYMENT_REQUEST, encode(job))
        registry.may.set()
        for question in questions:
            with pytest.raises(Conflict, match="was asked for here already"):
                await question
        assert node.services.log.load(Hold, job.job_id) is None
        for job_id in await node.parts.executor.list_jobs():
            await node.parts.executor.remove(job_id)


async def test_a_question_that_took_long_takes_no_id_that_another_peer_asked_about_meanwhile(
    node: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.services.device.onboard(OFFER)
    async with peers(node, 2) as (owner, other):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(owner.peer_id, other.peer_id))))
        job_id = new_id()
        with monkeypatch.context() as patched:
            registry = SlowRegistry(node, patched)
            question = asyncio.create_task(other.ask(PREFLIGHT, quoted(job_id)))
            await registry.asked.wait()
        await owner.ask(PREFLIGHT, quoted(job_id))
        hold = node.services.log.load(Hold, job_id)
        assert hold is not None
        assert hold.end(EXPIRED)
        await node.services.log.save(hold)
        registry.may.set()
        with pytest.raises(Forbidden, match="belongs to another peer"):
            await question
        assert not hold.held


async def test_what_a_denied_peer_asks_for_is_counted_and_not_recorded(node: Daemon) -> None:
    await node.services.device.onboard(OFFER)
    async with peers(node, 1) as (denied,):
        await node.services.device.change_policy(DevicePolicy(peers=Lists(deny=(denied.peer_id,))))
        head = node.services.log.head
        for _ in range(3):
            with pytest.raises(Forbidden, match=PEER_DENIED):
                await denied.ask(DEPLOYMENT_REQUEST, asked(new_id()))
        assert node.services.log.head == head
        (refused,) = node.services.refusals.newest()
        assert (refused.peer_id, refused.kind, refused.count) == (denied.peer_id, "peer", 3)
