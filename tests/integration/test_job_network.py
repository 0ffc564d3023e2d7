"""The network of a job on a provider with a real engine: what it uses up, and what it is when its gateway is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker import APIClient

from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.gateways import GatewaySettings
from dms.adapters.executors.profile import LABEL_GATEWAY
from dms.application.deployments import supervision
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.network import Network
from tests.fixtures.docker_executors import api
from tests.fixtures.gated import world
from tests.fixtures.hostile import probe_image
from tests.fixtures.provider import LIMITS, ask, docker_provider, end_of, output_of
from tests.fixtures.public_internet import PUBLIC, World
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]
__all__ = ["api", "world"]


@pytest.fixture
async def node(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(supervision, "NETWORK_LOOK_SECONDS", 0.2)
    gateways = GatewaySettings(range=world.range, resolver=world.resolver, max_mb=4)
    async with docker_provider(tmp_path, DockerSettings(limits=LIMITS, gateways=gateways)) as made:
        await wait_for(lambda: made.services.device.state.network == "internet")
        yield made


async def running(node: Node, script: str) -> str:
    """The job's id, once its container runs."""
    job_id, answer = await ask(node, script, probe_image(), network="internet")
    assert answer.accepted, answer.reason
    await wait_for(lambda: state(node, job_id) in (DeploymentState.RUNNING, DeploymentState.ENDED))
    return job_id


def state(node: Node, job_id: str) -> DeploymentState:
    found = node.log.load(Deployment, job_id)
    return DeploymentState.NEW if found is None else found.state


def gateway(api: APIClient, job_id: str) -> str:
    (found,) = api.containers(all=True, filters={"label": f"{LABEL_GATEWAY}={job_id}"})
    return str(found["Id"])


async def nothing_left(api: APIClient, job_id: str) -> None:
    label = {"label": f"{LABEL_GATEWAY}={job_id}"}
    async with asyncio.timeout(120):
        while api.containers(all=True, filters=label) or api.networks(filters=label):
            await asyncio.sleep(0.05)


async def test_an_image_fetches_over_the_network_and_what_it_used_is_recorded(node: Node, api: APIClient) -> None:
    job_id = await running(node, f"wget -q -O - http://model.example/model && probe fetch {PUBLIC} 80 1000000")
    assert await end_of(node, job_id) == (Fault.NONE, "exit code 0")
    assert await output_of(node, job_id) == ["weights", "1000019"]
    stream = await node.log.read(0, 10_000, stream=f"deployment-{job_id}")
    (ended,) = [recorded.event for recorded in stream if isinstance(recorded.event, Deployment.ContainerExited)]
    assert 1_000_000 < ended.received_bytes < 1_500_000
    assert 0 < ended.sent_bytes < 200_000
    await nothing_left(api, job_id)


@pytest.mark.parametrize("direction", ["fetch", "send"])
async def test_a_job_that_uses_up_its_share_is_stopped_and_told_why(node: Node, direction: str) -> None:
    job_id = await running(node, f"probe {direction} {PUBLIC} 8080 30000000; sleep 300")
    assert await end_of(node, job_id) == (Fault.REQUESTER, "network limit of 4 MiB reached")


@pytest.mark.parametrize("how", ["kill", "restart"])
async def test_a_job_that_loses_its_network_ends_as_the_providers_fault(node: Node, api: APIClient, how: str) -> None:
    job_id = await running(node, "echo up; sleep 300")
    at = gateway(api, job_id)
    api.kill(at) if how == "kill" else api.restart(at, timeout=0)
    fault, reason = await end_of(node, job_id)
    assert fault is Fault.PROVIDER
    assert reason.startswith("the gateway of the job's network")
    await nothing_left(api, job_id)


async def test_a_job_that_fails_for_want_of_its_network_is_not_blamed(
    node: Node, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "NETWORK_LOOK_SECONDS", 600)
    job_id = await running(node, f"while probe tcp {PUBLIC} 80 | grep -q reached; do sleep 0.1; done; exit 7")
    api.kill(gateway(api, job_id))
    fault, reason = await end_of(node, job_id)
    assert (fault, reason) == (Fault.PROVIDER, "the gateway of the job's network is gone from the provider's machine")


async def test_a_network_that_can_not_be_made_fails_the_job_and_is_advertised_no_longer(
    node: Node, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.adapters.executors.gateways.closed", lambda *_: "*filter\n-A NONE -j DROP\nCOMMIT\n")
    job_id, answer = await ask(node, "true", probe_image(), network="internet")
    assert answer.accepted
    fault, reason = await end_of(node, job_id)
    assert fault is Fault.PROVIDER
    assert reason.startswith("a gateway can't be closed")
    device = node.services.device
    await wait_for(lambda: device.state.network == Network.NONE)
    assert device.state.network_trouble == reason
    assert "internet" not in device.offering().features
    _, answer = await ask(node, "true", probe_image(), network="internet")
    assert answer.reason == "the provider gives jobs no internet, which this one needs"
    await nothing_left(api, job_id)


async def test_the_device_says_what_it_gives(node: Node) -> None:
    await node.log.written()
    async with node.client() as client:
        answer = (await client.get("/api/v1/device/status")).json()
        capacity = (await client.get(f"/api/v1/capacity?as_of={node.log.head}")).json()
    assert answer == {"online": True, "accepting": True, "reasons": [], "network": "internet"}
    assert [(row["network"], row["network_trouble"]) for row in capacity["providers"]] == [("internet", "")]
