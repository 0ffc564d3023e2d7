"""The engine that the package brings for the DMS alone, started exactly as its service says: jobs run on it, confined
as on any other, and go on while it is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from docker import APIClient
from msgspec.structs import replace

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.gateways import GatewaySettings
from dms.domain.network import Network
from tests.fixtures.docker_pair import DockerPair
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.engine_jobs import api, containers, jobs, pair, places, registry
from tests.fixtures.jobs import NODE, ended, file_in, launch, packed, read_all, shell_spec, texts
from tests.fixtures.jobs_in_states import BY_ITSELF, JobsInStates
from tests.fixtures.provider import LIMITS

__all__ = ["api", "containers", "jobs", "pair", "places", "registry"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]

UNIT = Path(__file__).parents[2] / "debian" / "nunet-dms.nunet-docker.service"


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine(unit=UNIT) as made:
        yield made


@pytest.fixture
async def executor(engine: OwnEngine) -> AsyncIterator[DockerExecutor]:
    """As the packaged service has it: its workspaces are volumes of the engine."""
    wanted = GatewaySettings(range=IPv4Network("10.218.254.0/24"), resolver=IPv4Address("10.213.0.1"))
    made = DockerExecutor(
        NODE, DockerSettings(limits=LIMITS, base_url=engine.base_url, workspace_volumes=True, gateways=wanted)
    )
    yield made
    for job_id in await made.list_jobs():
        await made.remove(job_id)
    await made.close()


async def test_root_in_a_container_is_nobody_on_the_machine(executor: DockerExecutor, api: APIClient) -> None:
    """api: of the same engine."""
    job_id = await launch(executor, shell_spec("sleep 300"))
    containers = api.containers(filters={"label": f"io.nunet.dms.job_id={job_id}"})
    assert containers
    for container in containers:
        inspected = api.inspect_container(container["Id"])
        process = inspected["State"]["Pid"]
        inside, outside, _ = read(f"/proc/{process}/uid_map").split()[:3]
        assert (inside, int(outside) >= 100_000) == ("0", True)
        assert int(read(f"/proc/{process}/status").partition("Uid:")[2].split()[0]) >= 100_000
        assert "NoNewPrivs:\t1" in read(f"/proc/{process}/status")


def read(path: str) -> str:
    return Path(path).read_text()


async def test_a_job_has_its_workspace_and_leaves_its_files(executor: DockerExecutor, tmp_path: Path) -> None:
    job_id = await launch(executor, shell_spec("echo kept > /workspace/file; cat /workspace/file; sleep 0"))
    assert texts(await read_all(executor, job_id)) == ["kept"]
    assert (await ended(executor, job_id)).exit_code == 0
    archive = tmp_path / "archive.tar.gz"
    await packed(executor, job_id, archive)
    assert file_in(archive, "workspace/file") == b"kept\n"


async def test_a_job_with_a_network_gets_a_gateway(executor: DockerExecutor) -> None:
    given = await executor.try_network()
    assert "a network that this DMS does not see" in given.reason  # the test's engine has one of its own
    job_id = await launch(
        executor, replace(shell_spec("ip -4 addr show dev eth0 | grep -c inet"), network=Network.INTERNET)
    )
    assert texts(await read_all(executor, job_id)) == ["1"]


async def test_a_job_goes_on_while_the_engine_is_restarted(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates
) -> None:
    assert engine.live_restore
    await jobs.start("running")
    await asyncio.to_thread(engine.stop)
    jobs.let_go()
    await asyncio.to_thread(engine.start)
    await jobs.tell("running")
    assert await pair.ends(jobs.of["running"]) == BY_ITSELF
