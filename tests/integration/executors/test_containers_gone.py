"""Containers that somebody else on the provider's machine stops, kills, removes or renames away: the job ends at once,
as the provider's fault, and nothing of it is left."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.domain.deployment import Deployment, DeploymentState, Fault
from tests.fixtures.dms import containers_of
from tests.fixtures.provider import accepted, docker_provider, end_of
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

TRAPS = "trap 'exit 0' TERM; sleep 300 & wait"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with docker_provider(tmp_path) as made:
        yield made


async def running(node: Node, script: str) -> str:
    job_id = await accepted(node, script, ram=16)

    def runs() -> bool:
        found = node.log.load(Deployment, job_id)
        return found is not None and found.state is DeploymentState.RUNNING

    await wait_for(runs)
    return job_id


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("rm", "--force"), "the container is gone"),
        (("kill",), "from outside"),
        (("stop", "--time", "5"), "from outside"),
    ],
)
async def test_who_ends_it_from_outside_is_no_fault_of_the_job(
    node: Node, command: tuple[str, ...], reason: str
) -> None:
    job_id = await running(node, TRAPS)
    await asyncio.to_thread(subprocess.run, ["docker", *command, f"dms-{job_id}"], check=True, timeout=120)
    fault, told = await end_of(node, job_id)
    assert fault is Fault.PROVIDER
    assert reason in told
    assert not node.services.device.reservations
    await wait_for(lambda: not containers_of(job_id))
