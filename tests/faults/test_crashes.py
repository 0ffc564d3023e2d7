"""kill -9 of either side in the midst of a job's output, or of both, or of the side that does nothing just then: after
a restart the same job goes on. What happens at each effect of one side is in the crash matrix.

Whatever the point: the container is started once and never stopped by us, its output is complete, and
a client that resumes with `after` and `log_after` has every action and every line exactly once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import websockets

from tests.fixtures.dms import Dms, Follower, containers_of, pair, payment, poll, request_body
from tests.fixtures.engine_starts import EngineStarts

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

LINES = 40
SCRIPT = f"i=1; while [ $i -le {LINES} ]; do echo out $i; echo err $i >&2; i=$((i+1)); sleep 0.05; done"

# (what the victim's log holds when it is killed, whose log, who is killed)
POINTS = [
    ("output", "sp", "sp"),
    ("output", "cp", "cp"),
    ("output", "sp", "both"),
    ("deployment.accepted", "cp", "both"),
    ("deployment.container_exited", "cp", "sp"),
]


@pytest.mark.parametrize(("point", "where", "victim"), POINTS, ids=[f"{v} at {p}" for p, _, v in POINTS])
async def test_killed_and_started_again_the_same_job_goes_on(
    tmp_path: Path, engine_starts: EngineStarts, point: str, where: str, victim: str
) -> None:
    async with pair(tmp_path) as (sp, cp):
        quote = await sp.post("/run/request-service", request_body(SCRIPT))
        job_id = quote["job_id"]
        follower = Follower(sp, job_id)
        following = asyncio.create_task(follower.until_over(120))
        paying = asyncio.create_task(pay_until_taken(sp, job_id))
        watched = sp if where == "sp" else cp
        victims = {"sp": [sp], "cp": [cp], "both": [sp, cp]}[victim]
        await asyncio.to_thread(kill_at, point, watched, victims, job_id)
        for dms in victims:
            dms.start()
        for dms in victims:
            await dms.ready()
        await paying
        await following
        assert follower.names == ["job-submitted", "deployment-response", "job-completed"]
        positions = [position for position, _ in follower.actions]
        assert positions == sorted(set(positions))
        assert [seq for seq, _, _ in follower.lines] == list(range(1, 2 * LINES + 1))
        assert follower.text("stdout") == "".join(f"out {i}\n" for i in range(1, LINES + 1))
        assert follower.text("stderr") == "".join(f"err {i}\n" for i in range(1, LINES + 1))
        assert engine_starts.of(job_id) == 1
        await nothing_left(job_id)


def kill_at(point: str, watched: Dms, victims: list[Dms], job_id: str) -> None:
    if point == "output":
        output = watched.folder / "logs" / f"{job_id}.ndjson"
        poll(lambda: output.exists() and output.read_bytes().count(b"\n") > LINES // 2, "half of the output")
    else:
        poll(lambda: point in watched.topics(job_id), point)
    for dms in victims:
        dms.kill9()


async def pay_until_taken(sp: Dms, job_id: str, tx_hash: str = "tx-crash") -> None:
    """Reports the payment, again after a crash if need be: an answer that was lost is asked for again."""

    async with asyncio.timeout(120):
        while "job.fund_status_reported" not in sp.topics(job_id):
            try:
                url = f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy"
                async with websockets.connect(url) as socket:
                    await socket.send(payment(tx_hash, job_id))
                    await asyncio.sleep(0.2)
            except (OSError, websockets.WebSocketException):
                await asyncio.sleep(0.1)


async def nothing_left(job_id: str) -> None:
    """The container is removed once its output is sealed."""
    async with asyncio.timeout(120):
        while await asyncio.to_thread(containers_of, job_id):
            await asyncio.sleep(0.1)
