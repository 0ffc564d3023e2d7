"""kill -9 at random moments: jobs follow each other without a pause, and one of the two daemons, or both, is killed
again and again. A client keeps a ledger of all that it was told. python -m tests.faults.random_kills --kills 1000

At the end: whatever was acknowledged is there and as it was told, each job that was paid for is over, the engine has
started none of them twice, both logs agree, and nothing is left."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import httpx
import orjson
import websockets
from msgspec import Struct

from ops.demo_image import build_images
from tests.fixtures.dms import Dms, Follower, containers_of, pair, payment, request_body
from tests.fixtures.engine_starts import EngineStarts, watched_starts
from tests.fixtures.waiting import wait_for

JOBS_AT_ONCE = 3
LINES = 10
SCRIPT = f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo out $i; sleep 0.1; done"
PATIENCE_SECONDS = 300.0  # for what is to come once nothing is killed any more: the machine may be busy
LONGEST_PAUSE_SECONDS = 2.0  # between two kills, from when both are up again
TOLD_EVERY = 25  # kills
ANSWER_SECONDS = "600"  # of a provider: one that comes back late on a busy machine is no end of a job


class Ledger(Struct):
    """What a client knows of one job. paid: its payment was acknowledged. follower: what it was told since."""

    job_id: str
    follower: Follower
    paid: bool = False
    over: bool = False


class Report(Struct):
    """signals: kills by victim. restart_seconds: until both were ready, each time. faults: what is wrong."""

    signals: Counter[str]
    jobs: int = 0
    acknowledged: int = 0
    restart_seconds: list[float] = []
    faults: list[str] = []

    def __str__(self) -> str:
        slowest = max(self.restart_seconds, default=0.0)
        return (
            f"{self.signals.total()} kills ({dict(self.signals)}), {self.jobs} jobs, {self.acknowledged} "
            f"acknowledged writes, slowest restart {slowest:.1f} s, {len(self.faults)} faults"
        )


class Clients:
    """Ask for jobs, pay, and follow them until their ends, as long as they are to. A daemon that is killed again and
    again may not answer for as long as that goes on."""

    def __init__(self, sp: Dms, most_seconds: float) -> None:
        """most_seconds: as long as it may go on."""
        self._sp, self._most_seconds = sp, most_seconds
        self.ledger, self.going_on = list[Ledger](), True

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(JOBS_AT_ONCE):
                group.create_task(self._one_after_the_other())

    async def _one_after_the_other(self) -> None:
        while self.going_on:
            entry = await self._quoted()
            if entry is None:
                continue
            self.ledger.append(entry)
            await self._pay(entry)
            await entry.follower.until_over(self._most_seconds + PATIENCE_SECONDS)
            entry.over = True

    async def _quoted(self) -> Ledger | None:
        """None when there was no answer: such a job is not paid for, and expires."""
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(timeout=60) as client:
                body = request_body(SCRIPT, CPU=200, RAM=32)
                answer = await client.post(f"{self._sp.url}/api/v1/run/request-service", json=body)
            if answer.status_code == httpx.codes.OK:
                job_id = answer.json()["job_id"]
                return Ledger(job_id, Follower(self._sp, job_id))
        await asyncio.sleep(0.05)
        return None

    async def _pay(self, entry: Ledger) -> None:
        """Until it is heard: the first action of the job says so. Again is harmless."""
        while not entry.paid:
            with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError):
                url = f"ws://127.0.0.1:{self._sp.rest_port}/api/v1/run/deploy?job_id={entry.job_id}"
                protocols = [websockets.Subprotocol("dms.actions.v2")]
                async with websockets.connect(url, subprotocols=protocols) as socket:
                    await socket.send(payment(f"tx-{entry.job_id}", entry.job_id))
                    async with asyncio.timeout(5):
                        async for text in socket:
                            if orjson.loads(text)["action"] not in ("connected", "log-stream-response"):
                                entry.paid = True
                                break
            await asyncio.sleep(0.02)


async def kill_at_random(
    both: Sequence[Dms], kills: int, seed: int, report: Report, until: float, ledger: Sequence[Ledger]
) -> None:
    """until: by the monotonic clock, whatever is still to do."""
    random = Random(seed)
    while report.signals.total() < kills and time.monotonic() < until:
        await asyncio.sleep(random.random() * LONGEST_PAUSE_SECONDS)
        victims = random.choice((both[:1], both[1:], both[1:], both))
        began = time.monotonic()
        for dms in victims:
            dms.kill9()
        report.signals["+".join(dms.folder.name for dms in victims)] += 1
        for dms in victims:
            dms.start()
        for dms in victims:
            await dms.ready()
        report.restart_seconds.append(time.monotonic() - began)
        if report.signals.total() % TOLD_EVERY == 0:
            over = sum(entry.over for entry in ledger)
            print(f"{report.signals.total()} kills, {len(ledger)} jobs, {over} of them over", flush=True)


async def run(folder: Path, kills: int, seed: int, most_seconds: float) -> Report:
    report = Report(Counter())
    until = time.monotonic() + most_seconds
    async with _pair(folder) as (sp, cp, starts):
        clients = Clients(sp, most_seconds)
        working = asyncio.create_task(clients.work())
        await wait_for(lambda: clients.ledger, PATIENCE_SECONDS)
        killing = asyncio.create_task(kill_at_random((sp, cp), kills, seed, report, until, clients.ledger))
        await asyncio.wait((working, killing), return_when=asyncio.FIRST_COMPLETED)
        if not killing.done():
            killing.cancel()
            await working  # what ended it
        await killing
        clients.going_on = False
        with contextlib.suppress(TimeoutError):  # whose job that is tells the ledger
            async with asyncio.timeout(PATIENCE_SECONDS):
                await working
        report.jobs = len(clients.ledger)
        for entry in clients.ledger:
            report.acknowledged += 1 + entry.paid + len(entry.follower.actions) + len(entry.follower.lines)
            report.faults += [f"job {entry.job_id}: {fault}" async for fault in faults_of(entry, sp, cp, starts)]
    return report


@contextlib.asynccontextmanager
async def _pair(folder: Path) -> AsyncIterator[tuple[Dms, Dms, EngineStarts]]:
    with watched_starts() as starts:
        async with pair(folder, job__log_update_interval="0.02", job__answer_timeout=ANSWER_SECONDS) as (sp, cp):
            yield sp, cp, starts


# --- what must hold --------------------------------------------------------------------------------------
async def faults_of(entry: Ledger, sp: Dms, cp: Dms, starts: EngineStarts) -> AsyncIterator[str]:
    """Of one job, once nothing is killed any more."""
    job_id, told = entry.job_id, entry.follower
    if not entry.over:
        yield f"it is not over; its requester has {sp.topics(job_id)}, its provider {cp.topics(job_id)}"
        return
    now = Follower(sp, job_id)
    await now.until_over(PATIENCE_SECONDS)
    if lost := [action for action in told.actions if action not in now.actions]:
        yield f"it was told {lost}, which is not there any more"
    if len(set(told.actions)) != len(told.actions):
        yield f"it was told something twice: {told.actions}"
    if told.lines != now.lines or [seq for seq, _, _ in now.lines] != list(range(1, LINES + 1)):
        yield f"it was told {len(told.lines)} lines, of {LINES}, and {len(now.lines)} are there"
    if now.names[-1] != "job-completed":
        yield f"its end is {now.last_message}"
    if (count := await asyncio.to_thread(starts.of, job_id)) != 1:
        yield f"the engine started it {count} times"
    for missing in {"job.service_requested", "job.fund_status_reported"} - set(sp.topics(job_id)):
        yield f"{missing} was acknowledged and is not there"
    reported, there = sp.topics(job_id).count("job.provider_reported"), len(cp.topics(job_id))
    if reported > there:
        yield f"the requester's log has {reported} events of its provider's, which has {there}"
    try:
        await wait_for(lambda: not containers_of(job_id), PATIENCE_SECONDS)
    except TimeoutError:
        yield "its container is still there"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.random_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the victims")
    parser.add_argument("--seconds", type=float, default=7200, help="at most; it ends early then, and says so")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is taken down then, too
    build_images()
    with tempfile.TemporaryDirectory(prefix="random-kills-") as folder:
        report = asyncio.run(run(Path(folder), args.kills, args.seed, args.seconds))
    for fault in report.faults:
        print(fault)
    print(report)
    early = report.signals.total() < args.kills
    if early:
        print(f"the time was over before all {args.kills} kills were made")
    return 1 if report.faults or early else 0


if __name__ == "__main__":
    sys.exit(main())
