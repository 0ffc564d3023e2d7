"""A job's id is known to every provider that was asked about the job: knowing it gives nobody anything of the job."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
from dms.daemon import Daemon
from dms.domain.deployment import Deployment
from dms.domain.device_policy import PEER_DENIED, DevicePolicy, Lists
from dms.domain.event import new_id
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.retry import deployment_id
from dms.errors import Forbidden, NotFound
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


def quoted(job_id: str) -> bytes:
    job = deployment_request(0)
    return encode(PreflightRequest(job_id=job_id, request=job.request, price=job.price, hold_seconds=300))


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
