"""The ready-made images on a real engine, from a registry of our own: fetched ahead, used for the check of a GPU."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from docker import APIClient

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.executors.profile import ContainerLimits
from dms.application.device.device import DeviceService
from dms.application.device.ml_images import ON_CPU, PYTORCH, TENSORFLOW, MlImages
from dms.application.ports.executor import Executor
from dms.application.ports.images import PullProgress
from dms.domain.resources import Resources
from dms.errors import Conflict, GpuUnavailable, NotFound
from tests.fixtures.images import PLAIN_IMAGE, demo_images, remove_image
from tests.fixtures.registry import Registry, serve_registry
from tests.integration.http.node import FixedHardware, now_us
from tests.integration.http.test_gpu import reading

__all__ = ["demo_images"]
pytestmark = pytest.mark.docker
NODE = f"12D3KooWMlImages{uuid4().hex}"  # of this process: the fixture removes all jobs of its node


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve_registry() as served:
        yield served
        api = APIClient(version="auto")
        for image in api.images():
            for name in image["RepoTags"] or ():
                if name.startswith(served.address):
                    remove_image(api, name)
        api.close()


@pytest_asyncio.fixture
async def engine(demo_images: tuple[str, str]) -> AsyncIterator[DockerExecutor]:
    limits = ContainerLimits(core_mhz=2_000, cores=1)
    made = DockerExecutor(
        NODE, DockerSettings(limits=limits, policy=ImagePolicy(allow=("127.0.0.1:*/*",)), pull_seconds=30.0)
    )
    yield made
    for job_id in await made.list_jobs():
        await made.remove(job_id)
    await made.close()


@pytest_asyncio.fixture
async def device(tmp_path: Path) -> AsyncIterator[DeviceService]:
    log = SQLiteEventLog(tmp_path / "events.db", now_us)
    await log.start()
    yield DeviceService(log, FixedHardware(reading("GPU-1"), reading("GPU-2")), NODE)
    await log.close()


def ml_images(
    device: DeviceService, engine: DockerExecutor, registry: Registry, runs: Executor | None = None
) -> MlImages:
    return MlImages(device, runs or engine, engine, NODE, f"{registry.address}/ml")


def have_check_image(registry: Registry) -> None:
    subprocess.run(["docker", "tag", PLAIN_IMAGE, f"{registry.address}/ml/{PYTORCH}"], check=True, timeout=120)


async def fetch(images: MlImages) -> list[PullProgress]:
    async with aclosing(images.fetch()) as steps:
        return [step async for step in steps]


async def test_missing_images_are_fetched_once_and_one_that_is_not_there_stops_no_other(
    registry: Registry, engine: DockerExecutor, device: DeviceService
) -> None:
    images = ml_images(device, engine, registry)
    registry.publish(f"ml/{TENSORFLOW}", "latest")
    registry.publish(f"ml/{ON_CPU}", "latest")
    assert [state.present for state in await images.listed()] == [False, False, False]
    first = [step for step in await fetch(images) if step.status != "pulling"]
    assert [step.status for step in first] == ["pulled", "failed", "pulled"]
    assert f"{registry.address}/ml/{PYTORCH}" in first[1].error
    assert [state.present for state in await images.listed()] == [True, False, True]
    again = [step for step in await fetch(images) if step.status != "pulling"]
    assert [step.status for step in again] == ["present", "failed", "present"]


async def test_without_gpu_only_the_image_of_cpu_jobs_is_wanted(
    registry: Registry, engine: DockerExecutor, device: DeviceService, tmp_path: Path
) -> None:
    log = SQLiteEventLog(tmp_path / "other.db", now_us)
    await log.start()
    plain = DeviceService(log, FixedHardware(), NODE)
    wanted = await ml_images(plain, engine, registry).listed()
    assert [state.image for state in wanted] == [f"{registry.address}/ml/{ON_CPU}"]
    with pytest.raises(NotFound, match="no NVIDIA GPU"):
        await ml_images(plain, engine, registry).check_cuda()
    await log.close()


async def test_the_check_says_what_to_fetch(registry: Registry, engine: DockerExecutor, device: DeviceService) -> None:
    with pytest.raises(NotFound, match=r"pytorch, is not on this machine; fetch it: nunet onboard-ml"):
        await ml_images(device, engine, registry).check_cuda()


async def test_an_engine_without_nvidia_is_said_so_and_nothing_stays(
    registry: Registry, engine: DockerExecutor, device: DeviceService
) -> None:
    have_check_image(registry)
    with pytest.raises(GpuUnavailable, match="NVIDIA Container Toolkit"):
        await ml_images(device, engine, registry).check_cuda()
    assert await engine.list_jobs() == []
    assert device.reservations.gpu_jobs() == {}


async def test_the_check_tells_output_and_exit_code(
    registry: Registry, engine: DockerExecutor, device: DeviceService, tmp_path: Path
) -> None:
    """As a child process, which needs no GPU: the image's program is not there, and the shell says so."""
    have_check_image(registry)
    runs = ProcessExecutor(NODE, tmp_path / "processes")
    found = await ml_images(device, engine, registry, runs).check_cuda()
    assert found.gpu_uuids == ("GPU-1", "GPU-2")
    assert found.exit_code != 0
    assert "python" in "".join(found.output)
    assert await runs.list_jobs() == []
    await runs.close()


async def test_the_check_leaves_gpus_of_jobs_alone(
    registry: Registry, engine: DockerExecutor, device: DeviceService, tmp_path: Path
) -> None:
    have_check_image(registry)
    runs = ProcessExecutor(NODE, tmp_path / "processes")
    device.reservations.hold("one", Resources(), ("GPU-1",))
    assert (await ml_images(device, engine, registry, runs).check_cuda()).gpu_uuids == ("GPU-2",)
    device.reservations.hold("two", Resources(), ("GPU-2",), shared=True)
    with pytest.raises(Conflict, match="in use"):
        await ml_images(device, engine, registry, runs).check_cuda()
    assert set(device.reservations.gpu_jobs()) == {"GPU-1", "GPU-2"}
    await runs.close()
