"""A whole job, service provider and compute provider as processes, against the bare Docker SDK doing
create, start, wait, logs and remove of the same command on the same image."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import docker
import orjson
import websockets

from ops.bench.report import Row
from ops.demo_image import SHELL_IMAGE, build_images
from tests.fixtures.dms import Dms, pair, payment, request_body

ROUNDS = 20
SCRIPT = "echo hello"


def run() -> Iterator[Row]:
    build_images()
    bare, ours = asyncio.run(_rounds())
    extra = median(o - b for o, b in zip(ours, bare, strict=True)) * 1000
    yield Row(
        f"whole job, median of {ROUNDS} ({extra:+.0f} ms)",
        f"bare SDK: {median(bare) * 1000:.0f} ms",
        f"{median(ours) * 1000:.0f} ms",
        median(o / b for o, b in zip(ours, bare, strict=True)),
        "<= 1.35",
    )


async def _rounds() -> tuple[list[float], list[float]]:
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with pair(Path(folder)) as (sp, _):
            await _job(sp, "warm up")
            for number in range(ROUNDS):
                bare.append(await asyncio.to_thread(_bare))
                ours.append(await _job(sp, f"bench {number}"))
    return bare, ours


def _bare() -> float:
    client = docker.from_env()
    started = time.perf_counter()
    container = client.containers.create(SHELL_IMAGE, [SCRIPT, ""])
    container.start()
    container.wait()
    container.logs()
    container.remove()
    seconds = time.perf_counter() - started
    client.close()
    return seconds


async def _job(sp: Dms, tx_hash: str) -> float:
    """From the service request to job-completed at the client."""
    started = time.perf_counter()
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await sp.post("/run/request-service", request_body(SCRIPT))
        await socket.send(payment(tx_hash))
        async with asyncio.timeout(60):
            while (action := orjson.loads(await socket.recv())["action"]) != "job-completed":
                if action == "job-failed":
                    raise RuntimeError("the job failed")
    return time.perf_counter() - started
