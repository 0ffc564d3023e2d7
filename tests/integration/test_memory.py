"""What a job leaves in memory: two daemons in this process do jobs for each other, and in the end nothing names them.

Counted, not measured: containers that still name the jobs, descriptors, tasks, and the muxer's books.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
import websockets

from dms.adapters.eventlog import aggregates
from dms.adapters.outputs import files as outputs
from dms.adapters.p2p.workarounds import HardenedYamux
from dms.application.records import heads
from dms.bootstrap import build
from dms.config import Job, Settings
from dms.daemon import Daemon
from tests.fixtures.dms import ADDRESS, payment, request_body
from tests.fixtures.local_peers import LOCAL
from tests.fixtures.own_daemon import own_settings
from tests.fixtures.waiting import wait_for

JOBS = 24
KEPT = 4  # of what is kept by design, bounded by a number: so few here, so that the bound is reached
KEPT_BY_DESIGN = {
    "Tail._events": "the newest events, KEPT_EVENTS",
    "NewNames._streams": "the numbers of streams, _REMEMBERED",
    "Keyring._by_scope": "the keys used last, REMEMBERED",
    "UsageWatch._jobs": "what jobs used, shown after their end too; MOST_JOBS of MOST_SAMPLES each, for an hour",
}


def settings(folder: Path, bootstrap: tuple[str, ...] = ()) -> Settings:
    return own_settings(
        folder,
        p2p=msgspec.structs.replace(LOCAL, bootstrap_peers=bootstrap),
        job=Job(executor="process", allow_process_for_peers=True),
    )


@pytest.fixture
async def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Daemon, Daemon]]:
    """A service provider and a compute provider that is onboarded."""
    monkeypatch.setattr(aggregates, "CACHED_AGGREGATES", KEPT)
    monkeypatch.setattr(outputs, "OPEN_FILES", KEPT)
    monkeypatch.setattr(heads, "SETTLE_SECONDS", 0.01)
    cp = await build(settings(tmp_path / "cp"))
    await cp.start()
    sp = await build(settings(tmp_path / "sp", (cp.services.network.listen_addresses[0],)))
    await sp.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{cp.port}/api/v1", timeout=120) as client:
        whole = (await client.get("/onboarding/provisioned")).json()
        share = {"cpu": int(whole["cpu"] * 0.8), "memory": int(whole["memory"] * 0.5)}
        body = {**share, "channel": "nunet-test", "payment_addr": ADDRESS}
        assert (await client.post("/onboarding/onboard", json=body)).status_code == 200
    await wait_for(sp.services.directory.advertisements)
    yield sp, cp
    await sp.close()
    await cp.close()


async def job(sp: Daemon, number: int) -> str:
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{sp.port}/api/v1", timeout=120) as client,
        websockets.connect(f"ws://127.0.0.1:{sp.port}/api/v1/run/deploy") as socket,
        asyncio.timeout(120),
    ):
        while (asked := await client.post("/run/request-service", json=request_body("echo hello"))).status_code == 404:
            continue  # the machine is busy, and the provider was slow to answer
        job_id = str(asked.json()["job_id"])
        await socket.send(payment(f"0x{number}", job_id))
        while (action := msgspec.json.decode(await socket.recv())["action"]) != "job-completed":
            assert action != "job-failed"
    return job_id


def containers() -> Iterator[tuple[str, Any]]:
    """Every dict, set, list and deque that an object of ours holds, with its name; gc knows no dict of plain values."""
    for thing in gc.get_objects():
        kind = type(thing)
        if str(kind.__module__).partition(".")[0] in ("dms", "projections") and hasattr(thing, "__dict__"):
            for name, value in vars(thing).items():
                if isinstance(value, dict | set | list | deque):
                    yield f"{kind.__name__}.{name}", value


def names_of(container: Any, jobs: set[str]) -> int:
    """How many of the jobs it names."""
    texts = [repr(item) if not isinstance(item, str) else item for item in container]
    return sum(any(job_id in text for text in texts) for job_id in jobs)


def held(jobs: set[str]) -> dict[str, int]:
    gc.collect()
    found = {name: names_of(value, jobs) for name, value in containers() if len(value) >= len(jobs) // 2}
    return {name: count for name, count in found.items() if count > KEPT and name not in KEPT_BY_DESIGN}


def muxer_books() -> dict[str, int]:
    """Streams that the connections' books still know, over all connections."""
    found = [thing for thing in gc.get_objects() if type(thing) is HardenedYamux]
    return {
        name: sum(len(getattr(one, name)) for one in found) for name in ("streams", "stream_buffers", "stream_events")
    }


def quiet(sp: Daemon, cp: Daemon) -> Callable[[], bool]:
    """All that follows a job's end is done."""
    return lambda: (
        not (
            any(cp.parts.reactors.keys(one.name) for one in cp.services.compute_provider.reactors)
            or any(sp.parts.reactors.keys(one.name) for one in sp.services.service_provider.reactors)
            or sp.parts.heads._showing
            or cp.parts.heads._showing
        )
    )


@pytest.mark.slow
async def test_jobs_that_are_over_leave_nothing_behind(pair: tuple[Daemon, Daemon]) -> None:
    sp, cp = pair
    process = psutil.Process()
    for number in range(KEPT + 2):
        await job(sp, number)
    await wait_for(quiet(sp, cp))
    gc.collect()
    descriptors, tasks, books = process.num_fds(), len(asyncio.all_tasks()), muxer_books()
    jobs = {await job(sp, 1000 + number) for number in range(JOBS)}
    await wait_for(quiet(sp, cp))
    await wait_for(lambda: process.num_fds() <= descriptors + 2)
    await wait_for(lambda: len(asyncio.all_tasks()) <= tasks + 2)
    await wait_for(lambda: all(count <= books[name] + 4 for name, count in muxer_books().items()))
    assert held(jobs) == {}
