"""`python -m ops.bench soak --minutes 30`: a service provider and a compute provider under load for a while, and
whether memory, descriptors, threads and tasks of both stay where they are once they are warm."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import httpx
import orjson
import psutil
import websockets
from rich.console import Console
from rich.table import Table

from tests.fixtures.dms import Dms, pair, payment, request_body

SAMPLE_SECONDS = 5.0
WARM_SHARE = 0.4  # of the run: caches fill, pools open
MOST_GROWTH = 1.05  # of memory, from the first third of what is warm to the last
SPARE_DESCRIPTORS = 16  # connections of clients come and go
SETTINGS = {"job__executor": "process", "job__allow_process_for_peers": "true"}


class Sample(NamedTuple):
    """seconds: since the start. tasks: of the event loop."""

    seconds: float
    jobs: int
    rss_mb: float
    descriptors: int
    threads: int
    tasks: int


class Verdict(NamedTuple):
    name: str
    first: float
    last: float
    slope: float
    fine: bool


def verdicts(samples: Sequence[Sample]) -> list[Verdict]:
    """Of what was sampled after the warm-up: the means of its first and last third, growth per 1,000 jobs, and whether
    that is flat."""
    warm = samples[int(len(samples) * WARM_SHARE) :]
    third = max(1, len(warm) // 3)
    found = []
    for name in ("rss_mb", "descriptors", "threads", "tasks"):
        first, last = (fmean(getattr(one, name) for one in part) for part in (warm[:third], warm[-third:]))
        fine = last <= first * MOST_GROWTH if name == "rss_mb" else last <= first + SPARE_DESCRIPTORS
        found.append(Verdict(name, first, last, _slope([(one.jobs, getattr(one, name)) for one in warm]), fine))
    return found


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares, per 1,000 jobs."""
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 1000 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m ops.bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--at-once", type=int, default=4, help="jobs at the same time")
    options = parser.parse_args(arguments)
    found = asyncio.run(_run(options.minutes * 60, options.at_once))
    fine = True
    for name, samples in found.items():
        table = Table(
            "after warm-up", "first third", "last third", "per 1,000 jobs", "", title=f"{name}: {len(samples)} samples"
        )
        for one in verdicts(samples):
            fine = fine and one.fine
            told = "flat" if one.fine else "GROWS"
            table.add_row(one.name, f"{one.first:.1f}", f"{one.last:.1f}", f"{one.slope:+.2f}", told)
        Console().print(table)
    print(f"{max(s.jobs for s in found['service provider'])} jobs; {'flat' if fine else 'not flat'}")
    return 0 if fine else 1


async def _run(seconds: float, at_once: int) -> dict[str, list[Sample]]:
    with tempfile.TemporaryDirectory() as folder:
        async with pair(Path(folder), **SETTINGS) as (sp, cp):
            done = itertools.count(1)
            reached = [0]
            working = [asyncio.create_task(_work(sp, number, done, reached)) for number in range(at_once)]
            nodes = {"service provider": sp, "compute provider": cp}
            found: dict[str, list[Sample]] = {name: [] for name in nodes}
            started = time.monotonic()
            try:
                while (passed := time.monotonic() - started) < seconds:
                    await asyncio.sleep(SAMPLE_SECONDS)
                    for name, node in nodes.items():
                        found[name].append(await _sample(node, passed, reached[0]))
                    sizes = ", ".join(
                        f"{name} {s[-1].rss_mb:.0f} MB, {s[-1].descriptors} fds" for name, s in found.items()
                    )
                    print(f"{passed:5.0f} s, {reached[0]} jobs: {sizes}", file=sys.stderr, flush=True)
                    for task in working:
                        if task.done():
                            task.result()
            finally:
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)
            return found


async def _sample(node: Dms, passed: float, jobs: int) -> Sample:
    process = psutil.Process(node.pid)
    with process.oneshot():
        rss, descriptors, threads = process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        figures = (await client.get(f"{node.url}/metrics")).text
    tasks = re.search(r"^dms_tasks ([0-9.]+)$", figures, re.MULTILINE)
    return Sample(passed, jobs, rss, descriptors, threads, int(float(tasks[1])) if tasks else 0)


async def _work(sp: Dms, number: int, done: itertools.count[int], reached: list[int]) -> None:
    for turn in itertools.count():
        await _job(sp, f"soak-{number}-{turn}-{time.time_ns()}")
        reached[0] = next(done)


async def _job(sp: Dms, tx_hash: str) -> None:
    """One that can't be placed just now (the provider is full, or slow to answer) is asked for again."""
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                    asked = await client.post(
                        f"{sp.url}/api/v1/run/request-service", json=request_body("echo hello", CPU=50, RAM=16)
                    )
                if asked.status_code == 200:
                    break
            await asyncio.sleep(0.2)
        await socket.send(payment(tx_hash, asked.json()["job_id"]))
        async with asyncio.timeout(120):
            while orjson.loads(await socket.recv())["action"] not in ("job-completed", "job-failed"):
                continue
