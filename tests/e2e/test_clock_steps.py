"""The wall clocks of both sides are stepped while jobs run: none fails for it, and limits hold."""

from __future__ import annotations

import asyncio
import time
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets

from tests.fixtures.clock import SteppedClock
from tests.fixtures.dms import Dms, Follower, payment, request_body, unlike_pair

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

HOUR, DAYS = 3_600, 5 * 86_400
STEPS = [-HOUR, HOUR, -DAYS, DAYS]
STEP_SECONDS = 3.0
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


@pytest.mark.parametrize("last", [DAYS, -DAYS], ids=["ahead", "behind"])
async def test_steps_of_either_clock_fail_no_job_and_lengthen_and_shorten_none(tmp_path: Path, last: int) -> None:
    """Each side's clock alone and both together, an hour and five days, forwards and back; the last step stays."""
    of_sp, of_cp = SteppedClock(tmp_path / "sp.clock"), SteppedClock(tmp_path / "cp.clock")
    async with unlike_pair(
        tmp_path, {}, {}, {}, sp_environment=of_sp.environment, cp_environment=of_cp.environment
    ) as (sp, cp):
        works = await submitted(sp, request_body(f"sleep {WORK_SECONDS:g}; echo done"), "tx-works")
        limited = await submitted(sp, request_body("sleep 600", time=1), "tx-limited")
        begun = await recorded(cp, limited.job_id, "deployment.container_started")
        for sides, seconds in product([(of_cp,), (of_sp,), (of_sp, of_cp)], [*STEPS[:-2], -last, last]):
            for clock in sides:
                clock.step(seconds)
            await asyncio.sleep(STEP_SECONDS)  # the jobs work meanwhile: what is tested is time
        lasted = await recorded(cp, limited.job_id, "deployment.stopped") - begun
        for follower in (works, limited):
            await follower.until_over()
        assert works.names == ["job-submitted", "deployment-response", "job-completed"]
        assert works.text("stdout") == "done\n"
        assert limited.names == ["job-submitted", "deployment-response", "job-failed"]
        assert "time limit of 1 min reached" in str(limited.last_message)
        assert lasted == pytest.approx(60.0, rel=0.1)
        history = await cp.get(f"/jobs/{works.job_id}/history")
        events = history["items"] if isinstance(history, dict) else history
        [exited] = [event for event in events if event["topic"] == "deployment.container_exited"]
        assert exited["data"]["duration_seconds"] == pytest.approx(WORK_SECONDS, rel=0.1)
