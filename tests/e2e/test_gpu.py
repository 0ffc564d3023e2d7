"""GPU jobs between two real daemons; the driver is a stand-in library, since machines that test have no GPU."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets

from tests.fixtures.dms import Dms, Follower, pair, payment, request_body
from tests.fixtures.nvml import Card, Driver

SMALL, LARGE = Card(uuid="GPU-small", used_mb=192), Card(uuid="GPU-large", name="Large GPU", total_mb=24_576)
WITHOUT_ENGINE = {"job__executor": "process", "job__allow_process_for_peers": "true"}


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver(tmp_path)
    made.show(SMALL, LARGE)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
async def docker_pair(tmp_path: Path, driver: Driver, demo_images: tuple[str, str]) -> AsyncIterator[tuple[Dms, Dms]]:
    async with pair(tmp_path) as both:
        yield both


@pytest.fixture
async def process_pair(tmp_path: Path, driver: Driver) -> AsyncIterator[tuple[Dms, Dms]]:
    """Jobs are child processes, which need no GPU to run: so they do hold theirs."""
    async with pair(tmp_path, **WITHOUT_ENGINE) as both:
        yield both


def gpu_body(script: str, **constraints: Any) -> dict[str, Any]:
    body = request_body(script, **constraints)
    body["params"]["machine_type"] = "gpu"
    return body | {"service_type": "ml-training-gpu"}


async def start(sp: Dms, tx_hash: str, script: str = "sleep 100", **constraints: Any) -> str:
    """A paid GPU job's id."""
    job_id = str((await sp.post("/run/request-service", gpu_body(script, **constraints)))["job_id"])
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment(tx_hash, job_id))
        async with asyncio.timeout(120):
            while orjson.loads(await socket.recv())["action"] not in ("deployment-response", "job-failed"):
                continue
    return job_id


async def holders(cp: Dms) -> dict[str, list[str]]:
    return {gpu["uuid"]: gpu["jobs"] for gpu in await cp.get("/gpu/status")}


async def offered_to(sp: Dms) -> list[tuple[int, int]]:
    """(total, free) of each GPU, as the service provider knows the compute provider's."""
    others = [peer for peer in await sp.get("/peers/dht/dump") if peer["gpu_info"]]
    return [(gpu["tot_vram"], gpu["free_vram"]) for peer in others for gpu in peer["gpu_info"]]


async def until_offered(sp: Dms, wanted: list[tuple[int, int]], asked: Dms | None = None) -> None:
    """asked: its GPUs are looked at now, instead of when it does so by itself."""
    async with asyncio.timeout(120):
        while await offered_to(sp) != wanted:
            if asked is not None:
                await asked.get("/gpu/status")
            await asyncio.sleep(0.1)


@pytest.mark.docker
async def test_an_engine_without_nvidia_fails_the_job_clearly_and_offers_no_gpu_again(
    docker_pair: tuple[Dms, Dms],
) -> None:
    sp, cp = docker_pair
    await until_offered(sp, [(24_576, 24_576), (8192, 8000)])
    job_id = await start(sp, "gpu-1", "echo never")
    follower = Follower(sp, job_id)
    await follower.until_over()
    assert follower.names[-1] == "job-failed"
    assert "can't give the job its GPU: is the NVIDIA Container Toolkit installed" in follower.last_message
    (job,) = (await cp.get("/jobs"))["items"]
    assert (job["status"], job["fault"]) == ("failed", "provider")
    await until_offered(sp, [(24_576, 0), (8192, 0)], cp)
    found = await cp.get("/gpu/capacity")
    assert (found["free_vram_mb"], "NVIDIA Container Toolkit" in found["hindrance"]) == (0, True)
    refused = await sp.post("/run/request-service", gpu_body("true"), expect=404)
    assert "does not have free" in str(refused["refused"])
    plain = str((await sp.post("/run/request-service", request_body("echo fine")))["job_id"])
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment("cpu-1", plain))
        follower = Follower(sp, plain)
        await follower.until_over()
    assert follower.names[-1] == "job-completed"


@pytest.mark.slow
async def test_each_job_has_its_gpu_alone_until_it_ends_also_over_a_crash(process_pair: tuple[Dms, Dms]) -> None:
    sp, cp = process_pair
    await until_offered(sp, [(24_576, 24_576), (8192, 8000)])
    first = await start(sp, "gpu-1")
    assert await holders(cp) == {"GPU-small": [first], "GPU-large": []}
    await until_offered(sp, [(24_576, 24_576), (8192, 0)])
    second = await start(sp, "gpu-2")
    assert await holders(cp) == {"GPU-small": [first], "GPU-large": [second]}
    await until_offered(sp, [(24_576, 0), (8192, 0)])
    await sp.post("/run/request-service", gpu_body("true"), expect=404)

    cp.kill9()
    cp.start()
    await cp.ready()
    assert await holders(cp) == {"GPU-small": [first], "GPU-large": [second]}
    (own,) = [row for row in (await cp.get("/capacity"))["providers"] if row["own"]]
    assert own["free"]["vram_mb"] == 0

    await cp.post(f"/jobs/{first}/terminate", {})
    async with asyncio.timeout(120):
        while (await holders(cp))["GPU-small"]:
            await asyncio.sleep(0.1)
    await until_offered(sp, [(24_576, 0), (8192, 8000)])
    third = await start(sp, "gpu-3")
    assert (await holders(cp))["GPU-small"] == [third]
    for job_id in (second, third):
        await cp.post(f"/jobs/{job_id}/terminate", {})


@pytest.mark.slow
async def test_jobs_that_share_sit_together_and_two_gpus_are_two(process_pair: tuple[Dms, Dms]) -> None:
    sp, cp = process_pair
    await until_offered(sp, [(24_576, 24_576), (8192, 8000)])
    shared = [await start(sp, f"shared-{n}", VRAM=4000, share_gpu=True) for n in range(2)]
    assert await holders(cp) == {"GPU-small": shared, "GPU-large": []}
    await until_offered(sp, [(24_576, 24_576), (8192, 0)])
    await sp.post("/run/request-service", gpu_body("true", gpus=2), expect=404)
    for job_id in shared:
        await cp.post(f"/jobs/{job_id}/terminate", {})
    await until_offered(sp, [(24_576, 24_576), (8192, 8000)])
    both = await start(sp, "both", gpus=2)
    assert await holders(cp) == {"GPU-small": [both], "GPU-large": [both]}
    await cp.post(f"/jobs/{both}/terminate", {})


@pytest.mark.slow
async def test_news_of_the_cards_reaches_the_network(process_pair: tuple[Dms, Dms], driver: Driver) -> None:
    sp, cp = process_pair
    await until_offered(sp, [(24_576, 24_576), (8192, 8000)])
    driver.show(SMALL, Card(uuid="GPU-large", name="Large GPU", total_mb=24_576, used_mb=500, processes=1))
    await until_offered(sp, [(24_576, 0), (8192, 8000)])  # something else computes there
    driver.show(Card(uuid="GPU-small", used_mb=3192))
    await until_offered(sp, [(8192, 5000)], cp)  # one is lost, of the other some memory is gone
    await sp.post("/run/request-service", gpu_body("true", VRAM=5001), expect=404)
    driver.show(hangs=True)
    await until_offered(sp, [], cp)
    assert await cp.get("/gpu/status") == []
    driver.show(SMALL)
    await until_offered(sp, [(8192, 8000)], cp)


@pytest.mark.slow
async def test_a_driver_that_hangs_from_the_start_holds_up_nothing(tmp_path: Path, driver: Driver) -> None:
    driver.show(SMALL, hangs=True)
    dms = Dms(tmp_path / "alone", settings={"job.executor": "process"})
    dms.start()
    try:
        await dms.ready()
        metadata = await dms.onboard()
        assert "gpu_info" not in metadata
        assert await dms.get("/gpu/status") == []
        driver.show(SMALL)
        async with asyncio.timeout(120):
            while not await dms.get("/gpu/status"):
                await asyncio.sleep(0.1)
        assert (await dms.get("/gpu/capacity"))["free_vram_mb"] == 8000
        driver.show(SMALL, hangs=True)
        assert dms.stop() == 0
    finally:
        dms.end()
    said = [line for line in dms.log_tail(200).splitlines() if "driver does not answer" in line]
    assert 1 <= len(said) <= 2, "once for each time that it began to hang"
