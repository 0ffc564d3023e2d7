"""The GPUs over REST: the live figures, and that all that tells of them tells the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.domain.api_token import Role
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.event import new_id
from dms.domain.gpus import GpuReading
from dms.domain.resources import Resources
from tests.fixtures.histories import request
from tests.fixtures.other_users import NOBODY, ask
from tests.integration.http.node import ADDRESS, FixedHardware, Node, running_node

API = "/api/v1"
ONBOARD = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}


def reading(uuid: str, used: int = 0, **more: Any) -> GpuReading:
    plain = GpuReading(
        name="Test GPU", uuid=uuid, vendor="nvidia", total_vram_mb=8000, used_vram_mb=used, free_vram_mb=8000 - used,
        utilization_percent=3, temperature_celsius=41, power_watts=21.5, compute_processes=0,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **more)


@pytest.fixture
def hardware() -> FixedHardware:
    return FixedHardware(reading("GPU-1"), reading("GPU-2"))


@pytest.fixture
async def node(tmp_path: Path, hardware: FixedHardware) -> AsyncIterator[Node]:
    async with running_node(tmp_path, hardware=hardware) as made:
        yield made


async def get(node: Node, path: str) -> Any:
    async with node.client() as client:
        answer = await client.get(API + path)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def onboard(node: Node) -> dict[str, Any]:
    async with node.client() as client:
        found: dict[str, Any] = (await client.post(f"{API}/onboarding/onboard", json=ONBOARD)).json()
        return found


async def grant(node: Node, uuid: str, vram_mb: int, *, shared: bool = False) -> str:
    """A deployment that holds a GPU, as the compute provider records it."""
    deployment = Deployment(new_id())
    reserved = Resources(cpu_mhz=100, memory_mb=100, vram_mb=vram_mb)
    deployment.accept("12D3KooWOne", request(machine_type="gpu"), "1", reserved, (uuid,), gpus_shared=shared)
    node.services.device.reservations.hold(deployment.key, reserved, (uuid,), shared=shared)
    await node.log.save(deployment)
    return deployment.key


async def free_vram_everywhere(node: Node) -> list[list[int]]:
    """As told by metadata, PeerData, /gpu/capacity; then the sum of each, and that of the capacity view."""
    metadata, (peer,) = await get(node, "/onboarding/metadata"), await get(node, "/peers/dht/dump")
    told = [[gpu["free_vram"] for gpu in found["gpu_info"]] for found in (metadata, peer)]
    capacity = await get(node, "/gpu/capacity")
    told.append([gpu["free_vram_mb"] for gpu in capacity["offered"]])
    (row,) = (await get(node, "/capacity"))["providers"]
    assert row["free"]["vram_mb"] == capacity["free_vram_mb"]
    return [*told, [row["free"]["vram_mb"]]]


async def test_without_gpus_everything_is_empty(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        metadata = await onboard(node)
        assert "gpu_info" not in metadata
        assert await get(node, "/gpu/status") == []
        assert await get(node, "/gpu/capacity") == {
            "detected": 0, "offered": [], "total_vram_mb": 0, "onboarded_vram_mb": 0, "free_vram_mb": 0,
            "hindrance": "",
        }  # fmt: skip
        (peer,) = await get(node, "/peers/dht/dump")
        assert (peer["has_gpu"], peer["gpu_info"]) == (False, None)


async def test_status_is_live_and_names_the_jobs(node: Node, hardware: FixedHardware) -> None:
    await onboard(node)
    job = await grant(node, "GPU-1", 8000)
    first, second = await get(node, "/gpu/status")
    assert first == {
        "name": "Test GPU", "uuid": "GPU-1", "vendor": "nvidia", "present": True, "utilization_percent": 3,
        "memory_total_mb": 8000, "memory_used_mb": 0, "memory_free_mb": 8000, "temperature_celsius": 41,
        "power_watts": 21.5, "jobs": [job],
    }  # fmt: skip
    assert second["jobs"] == []
    hardware.gpus = (reading("GPU-1", 7000, utilization_percent=None), reading("GPU-2", 1))
    first, second = await get(node, "/gpu/status")
    assert (first["memory_used_mb"], first["utilization_percent"], second["memory_free_mb"]) == (7000, None, 7999)


async def test_a_gpu_that_is_lost_under_its_job_is_still_shown(node: Node, hardware: FixedHardware) -> None:
    await onboard(node)
    job = await grant(node, "GPU-1", 8000)
    hardware.gpus = ()
    (lost,) = await get(node, "/gpu/status")
    assert (lost["uuid"], lost["present"], lost["memory_used_mb"], lost["jobs"]) == ("GPU-1", False, None, [job])


async def test_status_needs_no_onboarding(node: Node) -> None:
    assert [gpu["uuid"] for gpu in await get(node, "/gpu/status")] == ["GPU-1", "GPU-2"]
    found = await get(node, "/gpu/capacity")
    assert (found["detected"], found["offered"], found["hindrance"]) == (2, [], "the machine is not onboarded")
    assert node.log.head == 0


async def test_all_views_of_the_free_memory_agree(node: Node, hardware: FixedHardware) -> None:
    metadata = await onboard(node)
    assert metadata["gpu_info"] == [{"name": "Test GPU", "tot_vram": 8000, "free_vram": 8000}] * 2
    assert await free_vram_everywhere(node) == [[8000, 8000]] * 3 + [[16_000]]
    await grant(node, "GPU-1", 8000)
    assert await free_vram_everywhere(node) == [[0, 8000]] * 3 + [[8000]]
    hardware.gpus = (reading("GPU-1", 7000, compute_processes=1), reading("GPU-2", 3000))
    await get(node, "/gpu/status")  # a look at the GPUs is what finds the news
    assert await free_vram_everywhere(node) == [[0, 5000]] * 3 + [[5000]]
    await grant(node, "GPU-2", 2000, shared=True)
    assert await free_vram_everywhere(node) == [[0, 3000]] * 3 + [[3000]]


async def test_what_something_else_computes_on_is_not_offered(node: Node, hardware: FixedHardware) -> None:
    await onboard(node)
    hardware.gpus = (reading("GPU-1", 500, compute_processes=1), reading("GPU-2"))
    (first, second) = (await get(node, "/gpu/capacity"))["offered"]
    assert (first["taken"], first["free_vram_mb"], second["taken"]) == (True, 0, False)


async def test_only_news_is_recorded(node: Node, hardware: FixedHardware) -> None:
    await onboard(node)
    head = node.log.head
    for used in (10, 200, 0, 255):
        hardware.gpus = (reading("GPU-1", used), reading("GPU-2"))
        await get(node, "/gpu/status")
    assert node.log.head == head
    hardware.gpus = (reading("GPU-2"),)
    await get(node, "/gpu/status")
    (event,) = await node.log.read(head, 10)
    assert isinstance(event.event, Device.GpusChanged)
    assert [gpu.uuid for gpu in event.event.gpus] == ["GPU-2"]


async def test_gpus_that_the_engine_could_not_give_are_withdrawn_and_it_says_why(node: Node) -> None:
    await onboard(node)
    node.services.device.distrust_gpus("no toolkit")
    found = await get(node, "/gpu/capacity")
    assert (found["detected"], found["free_vram_mb"], found["hindrance"]) == (2, 0, "no toolkit")
    assert all(gpu["taken"] for gpu in found["offered"])
    node.services.device._gpus_again_at = 0.0  # ten minutes later
    assert (await get(node, "/gpu/capacity"))["free_vram_mb"] == 16_000
    node.services.device.distrust_gpus("still no toolkit")
    assert (await get(node, "/gpu/capacity"))["free_vram_mb"] == 0
    await onboard(node)  # the owner says that it is mended
    found = await get(node, "/gpu/capacity")
    assert (found["free_vram_mb"], found["hindrance"]) == (16_000, "")


async def test_images_and_check_need_docker(node: Node) -> None:
    async with node.client() as client:
        for answer in (
            await client.get(f"{API}/ml-images"),
            await client.post(f"{API}/ml-images/fetch"),
            await client.post(f"{API}/gpu/check"),
        ):
            assert answer.status_code == 409
            assert "without it (see job.executor)" in answer.json()["error"]


async def test_what_is_not_onboarded_is_not_offered(node: Node) -> None:
    await onboard(node)
    async with node.client() as client:
        assert (await client.post(f"{API}/onboarding/offboard")).status_code == 200
    (peer,) = await get(node, "/peers/dht/dump")
    assert (peer["has_gpu"], peer["gpu_info"]) == (False, None)


async def test_who_may_not_see_the_provider_is_told_of_no_job(node: Node, hardware: FixedHardware) -> None:
    await onboard(node)
    job = await grant(node, "GPU-1", 8000)
    tokens = {role: str(await node.services.tokens.create(role, role)) for role in Role}

    async def jobs(**caller: Any) -> list[list[str]]:
        answer = await ask(("127.0.0.1", node.port), "GET", f"{API}/gpu/status", **caller)
        return [gpu["jobs"] for gpu in answer.json]

    for gpus in ((reading("GPU-1"), reading("GPU-2")), (reading("GPU-2"),)):  # the second time it is lost
        hardware.gpus = gpus
        assert await jobs(uid=NOBODY) == [[], []]
        told = {role: await jobs(headers={"authorization": f"Bearer {token}"}) for role, token in tokens.items()}
        assert told.pop(Role.SPD) == [[], []]
        assert all(sorted(lists) == [[], [job]] for lists in told.values())
