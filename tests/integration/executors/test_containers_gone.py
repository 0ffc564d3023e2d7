"""Containers that somebody else on the provider's machine stops, kills, removes or renames away: the job ends at once,
as the provider's fault, and nothing of it is left."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.domain.deployment import Deployment, DeploymentState, Fault
from tests.fixtures.dms import containers_of
from tests.fixtures.provider import LIMITS, accepted, docker_provider, end_of, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, running_node
from tests.integration.test_compute_provider import nothing_left, onboard

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

TRAPS = "trap 'exit 0' TERM; sleep 300 & wait"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with docker_provider(tmp_path) as made:
        yield made


async def docker(*command: str) -> None:
    await asyncio.to_thread(subprocess.run, ["docker", *command], check=True, timeout=120)


async def running(node: Node, script: str) -> str:
    job_id = await accepted(node, script, ram=16)

    def runs() -> bool:
        found = node.log.load(Deployment, job_id)
        return found is not None and found.state is DeploymentState.RUNNING

    await wait_for(runs)
    return job_id


@pytest.mark.parametrize("command", [("rm", "--force"), ("kill",), ("stop", "--time", "5")])
async def test_who_ends_it_from_outside_is_no_fault_of_the_job(node: Node, command: tuple[str, ...]) -> None:
    job_id = await running(node, TRAPS)
    await docker(*command, f"dms-{job_id}")
    fault, reason = await end_of(node, job_id)
    assert fault is Fault.PROVIDER
    assert "outside" in reason
    assert not node.services.device.reservations
    await wait_for(lambda: not containers_of(job_id))


async def test_one_that_went_while_the_dms_was_down_ends_its_job_at_the_start(tmp_path: Path) -> None:
    settings = DockerSettings(limits=LIMITS, workspaces=tmp_path / "workspaces")
    async with running_node(
        tmp_path, runs_for_peers=True, executor=lambda node_id: DockerExecutor(node_id, settings)
    ) as node:
        await onboard(node)
        async with providing(node):
            job_id = await running(node, TRAPS)
        await docker("rm", "--force", f"dms-{job_id}")
        async with providing(node, job_id):
            assert await end_of(node, job_id) == (
                Fault.PROVIDER, "the container is gone: it was removed from outside"
            )  # fmt: skip
            await nothing_left(node)
