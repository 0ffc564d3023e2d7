"""The crash matrix with real daemons and a real engine: each point that a job comes by, before and after, on both
sides, under each fault. All of it: python -m tests.faults.crash_matrix (a quarter of an hour and more).

The points are generated: they are those that the two daemons tell of when nothing fails. The whole matrix without
Docker, with more scenarios, is in tests/simulation/matrix."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx
import websockets

from dms.adapters.executors.engine_output import OUTPUT_UNSEEN
from dms.domain.job import Job
from ops.demo_image import build_images
from tests.fixtures.dms import Dms, Follower, containers_of, payment, request_body
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.engine_starts import EngineStarts, watched_starts
from tests.fixtures.faulty_dms import FOLDER, KILLED, STOPPED
from tests.fixtures.jobs import file_in
from tests.fixtures.netns import Host, other_host
from tests.fixtures.waiting import wait_for

ENGINE_KILLED, CUT = "loses its engine", "is cut off"
FAULTS = (KILLED, STOPPED, ENGINE_KILLED, CUT)
ROLES = {"sp": "service provider", "cp": "compute provider"}
AWAY_SECONDS = 3.0  # of an engine and of a line: well below what ends a job
PATIENCE_SECONDS = 240.0
LEFT_SECONDS = 120.0  # in which nothing stays of a job that is over
LAST_SECONDS = 10.0  # in which the last point comes by once all is recorded
TRIES = 3  # to come by a point
LINES = 20
SCRIPT = (
    f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo out $i; echo $i > /workspace/new; "
    "mv /workspace/new /workspace/state; sleep 0.1; done"
)
PROGRAM = "tests.fixtures.faulty_dms"
OFTEN = {"job.log_update_interval": "0.01"}  # minutes between checkpoints
PASSING = frozenset((
    Job.ProviderReported.TOPIC, "job.provider_unreachable", "job.provider_returned", "deployment.checkpoint_delivered",
))  # fmt: skip

Story = dict[str, Any]


class Strike(NamedTuple):
    """side: "sp" or "cp". point: as its text."""

    side: str
    point: str
    fault: str

    def __str__(self) -> str:
        return f"the {ROLES[self.side]} {self.fault} {self.point}"


class NotMet(AssertionError):
    """The daemon did not come by the point: what goes on side by side there has another order at times."""


class Run(NamedTuple):
    """met: (side, point), in order."""

    story: Story
    met: Sequence[tuple[str, str]]


class Pair:
    """Both daemons, one of which meets the fault; and what is around them."""

    def __init__(self, sp: Dms, cp: Dms, engine: OwnEngine | None, host: Host | None, starts: EngineStarts) -> None:
        self.sp, self.cp, self.engine, self.host, self.starts = sp, cp, engine, host, starts

    def of(self, side: str) -> Dms:
        return self.sp if side == "sp" else self.cp

    async def meet(self, strike: Strike, job: asyncio.Future[str]) -> None:
        """The fault, once the daemon has told that it is at its point; and its end."""
        dms = self.of(strike.side)
        folder = faults_of(dms)
        await wait_for((folder / "struck").exists, PATIENCE_SECONDS)
        if strike.fault in (KILLED, STOPPED):
            await asyncio.to_thread(dms.wait)
            dms.start()
            await dms.ready()
        elif strike.fault == ENGINE_KILLED:
            await self._kill_engine(folder, await job if job.done() else "")
        else:
            assert self.host is not None
            self.host.cut()
            (folder / "go_on").touch()
            await asyncio.sleep(AWAY_SECONDS)
            self.host.mend()

    async def _kill_engine(self, folder: Path, job_id: str) -> None:
        """What it has started is told before it goes: nobody tells it afterwards."""
        engine = self.engine
        assert engine is not None
        if job_id and containers_of(job_id, "running", engine.base_url):
            await asyncio.to_thread(self.starts.of, job_id)
        await asyncio.to_thread(engine.kill)
        (folder / "go_on").touch()
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.to_thread(engine.start)
        self.starts.watch()


def faults_of(dms: Dms) -> Path:
    return dms.folder / "faults"


@contextlib.asynccontextmanager
async def pair(folder: Path, strike: Strike | None, engine: OwnEngine | None) -> AsyncIterator[Pair]:
    """Where the line is cut, the provider is on a host of its own."""
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(other_host()) if strike and strike.fault == CUT else None
        starts = stack.enter_context(watched_starts(engine.base_url if engine else ""))
        there = {"netns": host.name, "host": host.address} if host else {}
        docker = {"DOCKER_HOST": engine.base_url} if engine else {}
        cp = _dms(folder / "cp", strike, docker, **there)
        stack.callback(cp.end)
        cp.start()
        await cp.ready()
        here = {"listen": [f"/ip4/{host.ours}/tcp/0"]} if host else {}
        sp = _dms(folder / "sp", strike, {}, bootstrap=[await cp.address()], **here)
        stack.callback(sp.end)
        sp.start()
        await sp.ready()
        await cp.onboard()
        await sp.sees_provider()
        yield Pair(sp, cp, engine, host, starts)


def _dms(folder: Path, strike: Strike | None, environment: dict[str, str], **more: Any) -> Dms:
    faults = folder / "faults"
    faults.mkdir(parents=True)
    if strike is not None and folder.name == strike.side:
        (faults / "strike").write_text(f"{strike.point}\n{strike.fault}\n")
    return Dms(folder, settings=OFTEN, environment=environment | {FOLDER: str(faults)}, program=PROGRAM, **more)


# --- one job -------------------------------------------------------------------------------------------
async def play(folder: Path, strike: Strike | None = None, engine: OwnEngine | None = None) -> Run:
    """A job from its request to its end. Raises NotMet, TimeoutError when it does not come to its end."""
    async with pair(folder, strike, engine) as both, asyncio.timeout(PATIENCE_SECONDS):
        job: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        meeting = asyncio.create_task(both.meet(strike, job)) if strike else None
        try:
            job_id = await quoted(both.sp)
            job.set_result(job_id)
            follower = Follower(both.sp, job_id)
            paying = asyncio.create_task(paid(both.sp, job_id))
            await follower.until_over(PATIENCE_SECONDS)
            await paying
            await _settled(both, job_id, follower)
            if strike is not None and meeting is not None:
                await _was_met(strike, both)
                await meeting
        finally:
            if meeting is not None:
                meeting.cancel()
        return Run(await _story(both, job_id, follower), [*_met(both)])


async def _was_met(strike: Strike, both: Pair) -> None:
    """Raises NotMet when it was not, though all is over."""
    try:
        await wait_for((faults_of(both.of(strike.side)) / "struck").exists, LAST_SECONDS)
    except TimeoutError as error:
        raise NotMet(f"the fault did not happen: {strike}") from error


async def quoted(sp: Dms) -> str:
    """The job's id. An answer that was lost is looked for among the jobs before it is asked for again."""
    async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient(timeout=60) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                known = (await client.get(f"{sp.url}/api/v1/jobs")).json()
                if known.get("items"):  # none in an error, while it starts
                    return str(known["items"][0]["job_id"])
                answer = await client.post(f"{sp.url}/api/v1/run/request-service", json=request_body(SCRIPT))
                if answer.status_code == 200:
                    return str(answer.json()["job_id"])
            await asyncio.sleep(0.1)


async def paid(sp: Dms, job_id: str) -> None:
    """Reported, again after a crash if need be: an answer that was lost is asked for again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "job.fund_status_reported" not in sp.topics(job_id):
            with contextlib.suppress(OSError, websockets.WebSocketException):
                url = f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy"
                async with websockets.connect(url) as socket:
                    await socket.send(payment(f"tx-{job_id}", job_id))
                    await asyncio.sleep(0.2)


async def _settled(both: Pair, job_id: str, follower: Follower) -> None:
    """Raises AssertionError with what came of it instead."""
    try:
        await wait_for(lambda: _is_settled(both, job_id), LEFT_SECONDS)
    except TimeoutError as error:
        topics = f"service provider: {both.sp.topics(job_id)}\ncompute provider: {both.cp.topics(job_id)}"
        raise AssertionError(f"not over, or something stays: {follower.last_message}\n{topics}") from error


def _is_settled(both: Pair, job_id: str) -> bool:
    """Both have nothing to do any more. What an engine that is away still has is not known."""
    taken = {"job.checkpoint_received", "job.results_received"}  # recorded behind the word to who gave them
    given = {"deployment.checkpoint_deleted", "deployment.results_deleted"}
    where = both.engine.base_url if both.engine else ""
    if not (taken <= set(both.sp.topics(job_id)) and given <= set(both.cp.topics(job_id))):
        return False
    try:
        return not containers_of(job_id, base_url=where)
    except subprocess.CalledProcessError:
        if both.engine is None:
            raise
        return False


async def _story(both: Pair, job_id: str, follower: Follower) -> Story:
    received = [both.sp.folder / folder / f"{job_id}.tar.gz" for folder in ("received_checkpoints", "received_results")]
    return {
        "service provider": _decided(both.sp.topics(job_id)),
        "compute provider": _decided(both.cp.topics(job_id)),
        "told": [name for name in follower.names if name != "checkpoint-received"],
        "told twice": len(follower.actions) - len(set(follower.actions)),
        "lines": [seq for seq, _, _ in follower.lines],
        "output": follower.text("stdout"),
        "errors": follower.text("stderr").rstrip(),
        "engine starts": await asyncio.to_thread(both.starts.of, job_id),
        "archives": [file_in(archive, "workspace/state") for archive in received],
    }


def _decided(topics: Sequence[str]) -> list[str]:
    """In order; and behind it, each once, what becomes of archives."""
    archives = {topic for topic in topics if "checkpoint_" in topic or "results_" in topic}
    return [topic for topic in topics if topic not in PASSING | archives] + sorted(archives - PASSING)


def _met(both: Pair) -> Iterator[tuple[str, str]]:
    for side in ROLES:
        yield from ((side, line) for line in (faults_of(both.of(side)) / "met").read_text().splitlines())


def differences(story: Story, expected: Story, fault: str) -> str:
    cut_short = fault == ENGINE_KILLED and story["errors"] == OUTPUT_UNSEEN
    wanted = without_its_last_lines(story, expected) if cut_short else expected
    then, now = ([f"{key}: {value}" for key, value in one.items()] for one in (wanted, story))
    return "\n".join(unified_diff(then, now, n=0, lineterm=""))


def without_its_last_lines(story: Story, expected: Story) -> Story:
    """What is to be told of a job that ended while its engine was away, which keeps none of the last lines: the first
    ones, and that others may be missing. All else is the same."""
    output, kept = expected["output"], story["output"]
    lines = [*range(1, kept.count("\n") + 2)]
    return expected | {"output": kept if output.startswith(kept) else output, "errors": OUTPUT_UNSEEN, "lines": lines}


# --- all of them ---------------------------------------------------------------------------------------
async def run_all(only: str, part: slice, at_once: int) -> int:
    with tempfile.TemporaryDirectory(prefix="crash-matrix-") as folder, own_engine(live_restore=True) as engine:
        build_images()
        expected = await play(Path(folder) / "uninterrupted")
        cells = [Strike(side, point, fault) for side, point in sorted(expected.met) for fault in FAULTS]
        wanted = [cell for cell in cells if only in str(cell)]
        Random(0).shuffle(wanted)  # who stops it early has seen something of everything
        wanted = wanted[part]
        print(f"{len(expected.met)} points, {len(cells)} cells, {len(wanted)} of them now", flush=True)
        began, failed, done = time.monotonic(), 0, 0
        places, own = asyncio.Semaphore(at_once), asyncio.Lock()

        async def one(number: int, strike: Strike) -> None:
            nonlocal failed, done
            async with own if strike.fault == ENGINE_KILLED else contextlib.nullcontext(), places:
                of = engine if strike.fault == ENGINE_KILLED else None
                trouble = await trouble_in(Path(folder) / str(number), strike, of, expected.story)
            done += 1
            failed += bool(trouble)
            said = f"FAILED: {trouble}" if trouble else "ok"
            print(f"{done}/{len(wanted)} {time.monotonic() - began:.0f} s, {strike}: {said}", flush=True)

        async with asyncio.TaskGroup() as group:  # one that breaks has the others taken down, before their folder goes
            for number, strike in enumerate(wanted):
                group.create_task(one(number, strike))
        print(f"{len(wanted)} cells, {failed} failed, {time.monotonic() - began:.0f} s")
        return 1 if failed else 0


async def trouble_in(folder: Path, strike: Strike, engine: OwnEngine | None, expected: Story) -> str:
    """Empty for none."""
    trouble = ""
    for number in range(TRIES):
        try:
            return differences((await play(folder / str(number), strike, engine)).story, expected, strike.fault)
        except NotMet as error:
            trouble = str(error)
        except (AssertionError, TimeoutError, OSError, subprocess.SubprocessError) as error:
            return f"{type(error).__name__}: {error}"
    return trouble


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash_matrix", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose names have it in them")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="one of so many parts, to be run side by side")
    parser.add_argument("--at-once", type=int, default=3)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is taken down then, too
    number, parts = map(int, args.part.split("/"))
    return asyncio.run(run_all(args.only, slice(number - 1, None, parts), args.at_once))


if __name__ == "__main__":
    sys.exit(main())
