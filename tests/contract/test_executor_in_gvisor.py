"""The same promises of containers that run in gVisor, on an engine of our own that has it: all of them by
`make test-gvisor`, in `make test` those that a kernel has a say in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient
from msgspec.structs import replace

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.application.ports.executor import Executor
from dms.domain.network import Network
from tests.contract import test_executor as promises
from tests.contract.test_executor import executor
from tests.fixtures.docker_executors import LIMITS
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.gvisor import EVERYTHING
from tests.fixtures.jobs import NODE, run, shell_spec, texts

__all__ = ["executor"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]
OF_THE_KERNEL = (
    "test_tells_exit_code_and_times", "test_keeps_streams_apart_and_in_order", "test_starting_twice_runs_once",
    "test_stops_what_listens_and_kills_what_does_not", "test_another_executor_adopts_a_running_job",
    "test_removing_is_safe_to_repeat_and_ends_the_job", "test_a_program_has_its_variables_and_its_secrets",
    "test_what_a_job_leaves_in_its_workspace_is_where_the_next_one_goes_on",
    "test_what_a_job_uses_is_told_while_it_runs",
    "test_links_and_pipes_give_nothing_of_the_host_away",
    "test_a_workspace_beyond_the_bound_is_refused_without_filling_the_disk",
)  # fmt: skip
wanted = [name for name in vars(promises) if name.startswith("test_")] if EVERYTHING else OF_THE_KERNEL
globals().update({name: getattr(promises, name) for name in wanted})


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
