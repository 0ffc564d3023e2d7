"""What somebody on the provider's machine does to a job's container, in every state of the job: the end that is
recorded, whose fault it is, who is paid, and that nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor
from dms.clock import machine_clock
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.reward import RewardType
from dms.domain.run_time import Instant
from tests.fixtures.dms import containers_of
from tests.fixtures.docker_executors import api
from tests.fixtures.provider import (
    accepted,
    docker_node,
    docker_provider,
    end_of,
    onboard,
    output_of,
    providing,
    remove_jobs,
)
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node

__all__ = ["api"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

SAVES = "trap 'echo saved; exit 0' TERM; echo up; sleep 600 & wait"
DEAF = "trap '' TERM; echo up; while true; do sleep 0.2; done"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with docker_provider(tmp_path) as made:
        yield made


def deployment(node: Node, job_id: str) -> Deployment:
    found = node.log.load(Deployment, job_id)
    assert found is not None
    return found


async def up(node: Node, script: str) -> tuple[str, str]:
    """(job id, the engine's id), once it is recorded as running and has printed."""
    job_id = await accepted(node, script)
    while deployment(node, job_id).state is not DeploymentState.RUNNING or not await output_of(node, job_id):
        await asyncio.sleep(0.02)
    return job_id, deployment(node, job_id).container_id


async def nothing_stays(node: Node, job_id: str) -> None:
    await wait_for(lambda: not containers_of(job_id) and job_id not in node.services.device.reservations)


@pytest.mark.parametrize("script", [SAVES, DEAF], ids=["saves", "deaf"])
@pytest.mark.parametrize("act", ["stop", "kill", "remove", "restart"])
async def test_whatever_is_done_to_a_running_job_is_the_providers_fault(
    node: Node, api: APIClient, act: str, script: str
) -> None:
    job_id, container = await up(node, script)
    acts = {
        "stop": lambda: api.stop(container, 1),
        "kill": lambda: api.kill(container),
        "remove": lambda: api.remove_container(container, force=True),
        "restart": lambda: api.restart(container, 1),
    }
    await asyncio.to_thread(acts[act])
    fault, reason = await end_of(node, job_id)
    assert fault is Fault.PROVIDER
    assert "outside" in reason
    ended = deployment(node, job_id)
    assert ended.reward is not None
    assert ended.reward.reward_type is RewardType.REFUND
    await nothing_stays(node, job_id)


async def test_a_failure_tells_the_exit_code_and_the_time_as_evidence(node: Node, api: APIClient) -> None:
    job_id, container = await up(node, SAVES)
    await asyncio.to_thread(api.stop, container, 30)
    await end_of(node, job_id)
    told = await node.log.read(0, 1_000, topics=(Deployment.Failed.TOPIC,), stream=f"{Deployment.KIND}-{job_id}")
    [failed] = [recorded.event for recorded in told]
    assert isinstance(failed, Deployment.Failed)
    assert failed.exit_code == 0
    assert failed.duration_seconds > 0
    assert (await output_of(node, job_id))[-1] == "saved"


async def test_a_renamed_container_changes_nothing(node: Node, api: APIClient) -> None:
    job_id, container = await up(node, "trap 'exit 0' HUP; echo up; sleep 600 & wait; exit 0")
    await asyncio.to_thread(api.rename, container, f"renamed-{job_id}")
    await node.services.compute_provider.stop(job_id, "operator", "enough", Fault.PROVIDER)
    assert await end_of(node, job_id) == (Fault.PROVIDER, "enough")
    await nothing_stays(node, job_id)


async def test_a_container_removed_before_its_start_was_never_started(
    node: Node, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = DockerExecutor.start

    async def too_late(self: DockerExecutor, job_id: str, *more: Any) -> None:
        await asyncio.to_thread(api.remove_container, deployment(node, job_id).container_id)
        await plain(self, job_id, *more)

    monkeypatch.setattr(DockerExecutor, "start", too_late)
    job_id = await accepted(node, SAVES)
    fault, reason = await end_of(node, job_id)
    assert (fault, "gone" in reason) == (Fault.PROVIDER, True)
    assert deployment(node, job_id).stops_at == 0
    await nothing_stays(node, job_id)


async def test_what_was_told_to_stop_is_stopped_whoever_is_quicker(node: Node, api: APIClient) -> None:
    job_id, container = await up(node, DEAF)
    await node.services.compute_provider.stop(job_id, "service provider", "enough", Fault.REQUESTER)
    await asyncio.to_thread(api.remove_container, container, force=True)
    assert await end_of(node, job_id) == (Fault.REQUESTER, "enough")
    told = await node.log.read(0, 1_000, topics=(Deployment.Stopped.TOPIC,), stream=f"{Deployment.KIND}-{job_id}")
    [stopped] = [recorded.event for recorded in told]
    assert isinstance(stopped, Deployment.Stopped)
    assert stopped.duration_seconds > 0  # it ran, whatever became of its container
    await nothing_stays(node, job_id)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("remove", (Fault.PROVIDER, "the container is gone: it was removed from outside")),
        ("start", (Fault.PROVIDER, "the container was restarted from outside")),
        ("stop", (Fault.PROVIDER, "the job was stopped on the provider's machine, from outside")),
        ("", (Fault.NONE, "exit code 0")),
    ],
)
async def test_what_happened_while_the_dms_was_down_is_found(
    tmp_path: Path, api: APIClient, act: str, expected: tuple[Fault, str]
) -> None:
    """A job that ended by itself and was then removed or started again; one that was stopped; and one left alone."""
    async with docker_node(tmp_path) as node:
        await onboard(node)
        async with providing(node):
            job_id, container = await up(node, "trap 'exit 0' HUP TERM; echo up; sleep 600 & wait")
    if act != "stop":
        await asyncio.to_thread(api.kill, container, "SIGHUP")  # to the job this is not an order to end
        await asyncio.to_thread(api.wait, container)
    if act == "remove":
        await asyncio.to_thread(api.remove_container, container)
    elif act:
        await asyncio.to_thread(getattr(api, act), container)
    async with docker_node(tmp_path) as node:
        try:
            async with providing(node, job_id):
                assert await end_of(node, job_id) == expected
                await nothing_stays(node, job_id)
        finally:
            await remove_jobs(node)


@pytest.mark.parametrize(
    ("act", "expected", "reward"),
    [
        ("removed", (Fault.PROVIDER, "the container is gone: it was removed from outside"), RewardType.REFUND),
        ("ended", (Fault.NONE, "exit code 0"), RewardType.WITHDRAW),
        # By the engine's stamps it ran for a moment only.
        ("runs", (Fault.REQUESTER, "time limit of 30 min reached"), RewardType.REFUND),
    ],
)
async def test_a_time_limit_that_passed_while_the_dms_was_down_ends_only_what_still_runs(
    tmp_path: Path, api: APIClient, act: str, expected: tuple[Fault, str], reward: RewardType
) -> None:
    async with docker_node(tmp_path) as node:
        await onboard(node)
        async with providing(node):
            job_id, container = await up(node, "trap 'exit 0' HUP; echo up; sleep 600 & wait")
    if act == "removed":
        await asyncio.to_thread(api.remove_container, container, force=True)
    elif act == "ended":
        await asyncio.to_thread(api.kill, container, "SIGHUP")
        await asyncio.to_thread(api.wait, container)
    async with docker_node(tmp_path, clock=an_hour_later) as node:
        try:
            async with providing(node, job_id):
                assert await end_of(node, job_id) == expected
                await nothing_stays(node, job_id)
                ended = deployment(node, job_id)
                assert ended.reward is not None
                assert ended.reward.reward_type is reward
        finally:
            await remove_jobs(node)


def an_hour_later() -> Instant:
    now = machine_clock()
    return Instant(now.boot_id, now.boot_us + 3_600_000_000, now.wall_us + 3_600_000_000)


async def test_a_job_that_ends_by_itself_is_paid(node: Node) -> None:
    job_id = await accepted(node, "echo done")
    assert await end_of(node, job_id) == (Fault.NONE, "exit code 0")
    ended = deployment(node, job_id)
    assert ended.reward is not None
    assert ended.reward.reward_type is RewardType.WITHDRAW
