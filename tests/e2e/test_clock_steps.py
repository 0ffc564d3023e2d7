"""The wall clocks of both sides are stepped while jobs run: none fails for it, and limits hold."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import product
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import orjson
import pytest
import websockets

from tests.fixtures.clock import SteppedClock
from tests.fixtures.dms import Dms, Follower, payment, request_body, unlike_pair
from tests.fixtures.engine_starts import EngineStarts
from tests.fixtures.live_folders import below
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

HOUR, DAYS, YEAR = 3_600, 5 * 86_400, 365 * 86_400
STEPS = [-HOUR, HOUR, -YEAR, YEAR]
STEP_SECONDS = 3.0
BUSY_SECONDS = 120.0  # what a busy machine may take to notice; an hour's step would show all the same
PATIENT = {"job.answer_timeout": "120"}  # a busy machine may start a container slowly
WORK_SECONDS = STEP_SECONDS * 3 * len(STEPS)  # so that all steps fall into a job


async def submitted(sp: Dms, body: dict[str, Any], tx_hash: str) -> Follower:
    quote = await sp.post("/run/request-service", body)
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment(tx_hash, quote["job_id"]))
        async with asyncio.timeout(120):
            while orjson.loads(await socket.recv())["action"] != "deployment-response":
                continue
    return Follower(sp, quote["job_id"])


async def recorded(dms: Dms, job_id: str, topic: str) -> float:
    """When it was seen, in seconds of the test's own monotonic clock."""
    async with asyncio.timeout(180):
        while topic not in await asyncio.to_thread(dms.topics, job_id):
            await asyncio.sleep(0.05)
    return time.monotonic()


def test_a_program_sees_each_step_on_the_wall_clock_alone(tmp_path: Path) -> None:
    """Else the tests below would step nothing."""
    clock = SteppedClock(tmp_path / "clock")
    watches = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    with Popen(
        [sys.executable, "-c", watches], stdin=PIPE, stdout=PIPE, text=True, env={**os.environ, **clock.environment}
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        ahead = []
        for seconds in (0, *STEPS):
            clock.step(seconds)
            print("look", file=program.stdin, flush=True)
            wall, monotonic = map(float, program.stdout.readline().split())
            ahead.append(round((wall - time.time()) / HOUR))
            assert 0 <= time.monotonic() - monotonic < HOUR / 2
        print(file=program.stdin)
    assert ahead == [seconds // HOUR for seconds in (0, *STEPS)]


@pytest.mark.parametrize("last", [YEAR, -YEAR], ids=["ahead", "behind"])
async def test_steps_of_either_clock_fail_no_job_and_lengthen_and_shorten_none(
    tmp_path: Path, last: int, engine_starts: EngineStarts
) -> None:
    """Each side's clock alone and both together, an hour and a year, forwards and back; the last step stays."""
    of_sp, of_cp = SteppedClock(tmp_path / "sp.clock"), SteppedClock(tmp_path / "cp.clock")
    async with unlike_pair(
        tmp_path, PATIENT, PATIENT, {}, sp_environment=of_sp.environment, cp_environment=of_cp.environment
    ) as (sp, cp):
        works = await submitted(sp, request_body(f"sleep {WORK_SECONDS:g}; echo done"), "tx-works")
        limited = await submitted(sp, request_body("sleep 600", time=1), "tx-limited")
        begun = await recorded(cp, limited.job_id, "deployment.container_started")
        for sides, seconds in product([(of_cp,), (of_sp,), (of_sp, of_cp)], [*STEPS[:-2], -last, last]):
            for clock in sides:
                clock.step(seconds)
            await asyncio.sleep(STEP_SECONDS)  # the jobs work meanwhile: what is tested is time
        lasted = await recorded(cp, limited.job_id, "deployment.stop_requested") - begun
        for follower in (works, limited):
            await follower.until_over()
        assert works.names == ["job-submitted", "deployment-response", "job-completed"]
        assert works.text("stdout") == "done\n"
        assert limited.names == ["job-submitted", "deployment-response", "job-failed"]
        assert "time limit of 1 min reached" in str(limited.last_message)
        assert [engine_starts.of(job.job_id) for job in (works, limited)] == [1, 1]
        assert 30 < lasted < 66 + BUSY_SECONDS
        history = await cp.get(f"/jobs/{works.job_id}/history")
        events = history["items"] if isinstance(history, dict) else history
        [exited] = [event for event in events if event["topic"] == "deployment.container_exited"]
        assert 0.9 * WORK_SECONDS < exited["data"]["duration_seconds"] < 1.1 * WORK_SECONDS + BUSY_SECONDS


# --- in every other state --------------------------------------------------------------------------------
ALL_STEPS = list(product(("requester", "provider", "both"), (HOUR, -HOUR, DAYS, -DAYS, YEAR, -YEAR)))
BIG_MB = 64  # it takes seconds to fetch, and all steps a quarter of one


class Stepping:
    """Each step of each side, one after the other, anew and anew until it is left; `taken` counts."""

    def __init__(self, of_sp: SteppedClock, of_cp: SteppedClock) -> None:
        self._clocks = {"requester": (of_sp,), "provider": (of_cp,), "both": (of_sp, of_cp)}
        self.taken = 0
        self._stepping: asyncio.Task[None] | None = None

    async def all_of_them(self) -> None:
        for side, seconds in ALL_STEPS:
            for clock in self._clocks[side]:
                clock.step(seconds)
            self.taken += 1
            await asyncio.sleep(0.02)  # both go on with it

    async def __aenter__(self) -> Stepping:
        async def go_on() -> None:
            while True:
                await self.all_of_them()

        self._stepping = asyncio.create_task(go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._stepping is not None:
            self._stepping.cancel()
            await asyncio.wait({self._stepping})


async def being_fetched(folder: Path) -> Path:
    """The part of a file that is there while it is fetched."""
    found: list[Path] = []

    def look() -> list[Path]:
        found[:] = [path for path, status in below(folder).items() if path.suffix == ".part" and status.st_size]
        return found

    return (await wait_for(look))[0]


async def test_steps_fail_nothing_that_waits_to_be_funded_is_stopped_or_fetched(tmp_path: Path) -> None:
    of_sp, of_cp = SteppedClock(tmp_path / "sp.clock"), SteppedClock(tmp_path / "cp.clock")
    letter = tmp_path / "shared" / "letter.bin"
    letter.parent.mkdir()
    letter.write_bytes(os.urandom(BIG_MB * 1024 * 1024))
    steps = Stepping(of_sp, of_cp)
    async with unlike_pair(
        tmp_path, {}, {"files.send_folders": str(letter.parent)}, {},
        sp_environment=of_sp.environment, cp_environment=of_cp.environment,
    ) as (sp, cp):  # fmt: skip
        await the_funding_window(sp, steps)
        await a_stop(sp, cp, steps)
        await a_checkpoint(sp, steps)
        await a_transfer(sp, cp, letter, steps)


async def the_funding_window(sp: Dms, steps: Stepping) -> None:
    quote = await sp.post("/run/request-service", request_body("echo done"))
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment("tx-late", quote["job_id"], status="pending"))
        await steps.all_of_them()
        await socket.send(payment("tx-late", quote["job_id"]))
        follower = Follower(sp, quote["job_id"])
        await follower.until_over()
    assert follower.names == ["job-submitted", "deployment-response", "job-completed"]


async def a_stop(sp: Dms, cp: Dms, steps: Stepping) -> None:
    """It takes the whole grace: all steps fall into it."""
    deaf = await submitted(sp, request_body("trap '' TERM; while true; do sleep 0.2; done"), "tx-deaf")
    await sp.post(f"/jobs/{deaf.job_id}/terminate", {"reason": "enough"})
    await recorded(cp, deaf.job_id, "deployment.stop_requested")
    before = steps.taken
    async with steps:
        await recorded(cp, deaf.job_id, "deployment.stopped")
    assert steps.taken >= before + len(ALL_STEPS)
    await deaf.until_over()
    assert deaf.names[-1] == "job-failed"
    assert "enough" in str(deaf.last_message)


async def a_checkpoint(sp: Dms, steps: Stepping) -> None:
    script = f"head -c {BIG_MB * 1024 * 1024} /dev/urandom > /workspace/weights; echo done"
    saves = await submitted(sp, request_body(script, RAM=512), "tx-saves")
    part = await being_fetched(sp.folder / "received_checkpoints")
    await steps.all_of_them()
    assert part.exists(), "it was fetched before all steps were taken"
    assert "job.checkpoint_received" not in sp.topics(saves.job_id)
    await recorded(sp, saves.job_id, "job.checkpoint_received")
    await saves.until_over()
    assert saves.names[-1] == "job-completed"
    assert "job.checkpoint_lost" not in sp.topics(saves.job_id)


async def a_transfer(sp: Dms, cp: Dms, letter: Path, steps: Stepping) -> None:
    body = {"peerID": (await sp.get("/peers/self"))["ID"], "filePath": str(letter)}
    transfer_id = (await cp.post("/peers/file/send", body, 202))["transfer_id"]
    await sp.post("/peers/file/accept", {"streamID": transfer_id}, 202)
    part = await being_fetched(sp.folder / "received_files")
    await steps.all_of_them()
    assert part.exists(), "it was fetched before all steps were taken"
    async with asyncio.timeout(180):
        while (seen := await sp.get(f"/peers/files/{transfer_id}"))["state"] == "accepted":
            await asyncio.sleep(0.05)
    assert seen["state"] == "completed"
