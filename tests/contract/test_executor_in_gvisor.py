"""The same promises of containers that run in gVisor, on an engine of our own that has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from docker import APIClient
from msgspec.structs import replace

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.profile import ContainerLimits
from dms.application.ports import Executor
from dms.domain.network import Network
from tests.contract import test_executor as promises
from tests.contract.test_executor import executor
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.jobs import NODE, run, shell_spec, texts

__all__ = ["executor"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]
# Each test of the suite, with the executors of this module.
globals().update({name: test for name, test in vars(promises).items() if name.startswith("test_")})
LIMITS = ContainerLimits(core_mhz=2_000, cores=psutil.cpu_count() or 1)


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine(gvisor=True) as made:
        yield made


@pytest.fixture
def new_executor(engine: OwnEngine, tmp_path: Path) -> Callable[[], Executor]:
    settings = DockerSettings(
        limits=LIMITS, base_url=engine.base_url, runtime="runsc", workspaces=tmp_path / "workspaces"
    )
    return lambda: DockerExecutor(NODE, settings)


async def test_its_kernel_is_gvisors(executor: Executor) -> None:
    lines, _ = await run(executor, shell_spec("dmesg | head -n 1"))
    assert "Starting gVisor" in texts(lines)[0]


async def test_what_needs_a_network_or_a_gpu_has_the_engines_own_runtime(
    engine: OwnEngine, new_executor: Callable[[], Executor]
) -> None:
    """A gateway's rules are the host kernel's: they do not hold for what gVisor sends."""
    api = APIClient(engine.base_url, version="auto")
    made, spec = new_executor(), shell_spec("true")
    for wanted, runtime in ((spec, "runsc"), (replace(spec, gpu_uuids=("GPU-1",)), "runc")):
        job = replace(wanted, job_id=shell_spec("").job_id)
        container = await made.create(job)
        found = await asyncio.to_thread(api.inspect_container, container)
        assert found["HostConfig"]["Runtime"] == runtime
        await made.remove(job.job_id)
    assert isinstance(made, DockerExecutor)
    assert await made._runtimes.of(replace(spec, network=Network.INTERNET)) == ""
    await made.close()
    api.close()
