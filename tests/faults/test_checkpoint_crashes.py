"""kill -9 of either side, or both, around a checkpoint: nothing is lost, and nothing runs twice.

While it is made and fetched: the newest one that was recorded arrives whole. While a job that goes on from one is
prepared: it begins once, with that checkpoint, and ends with the result of an uninterrupted one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_crashes import nothing_left, pay_until_taken
from tests.fixtures.dms import Dms, Follower, pair, poll, request_body
from tests.fixtures.engine_starts import EngineStarts
from tests.fixtures.jobs import file_in
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

STEPS = 20
COUNT = (
    "cd /workspace; n=0; [ ! -e state ] || read n < state; echo from $n; head -c 2000000 /dev/urandom > noise; "
    f"while [ $n -lt {STEPS} ]; do n=$((n+1)); echo $n > new; mv new state; sleep 0.1; done; echo at $n"
)
SAVING = [
    ("deployment.checkpoint_saved", "cp", "cp"),
    ("deployment.checkpoint_saved", "cp", "both"),
    ("job.checkpoint_offered", "sp", "sp"),
    ("job.checkpoint_received", "sp", "sp"),
    ("deployment.container_exited", "cp", "cp"),
    ("job.completed", "sp", "sp"),
    ("job.completed", "sp", "both"),
]
RESUMING = [
    ("job.submitted", "sp", "sp"),
    ("deployment.accepted", "cp", "cp"),
    ("deployment.accepted", "cp", "sp"),
    ("deployment.image_pulled", "cp", "both"),
    ("deployment.workspace_restored", "cp", "cp"),
    ("deployment.container_created", "cp", "cp"),
    ("deployment.container_started", "cp", "both"),
]


def names(points: list[tuple[str, str, str]]) -> list[str]:
    return [f"{victim} at {point}" for point, _, victim in points]


@pytest.mark.parametrize(("point", "where", "victim"), SAVING, ids=names(SAVING))
async def test_killed_around_a_checkpoint_the_last_one_arrives_whole(
    tmp_path: Path, engine_starts: EngineStarts, point: str, where: str, victim: str
) -> None:
    async with pair(tmp_path, job__log_update_interval="0.01") as (sp, cp):
        job_id, follower = await started_and_killed(sp, cp, request_body(COUNT), point, where, victim)
        assert milestones(follower) == ["job-submitted", "deployment-response", "job-completed"]
        assert follower.text("stdout") == f"from 0\nat {STEPS}\n"
        assert engine_starts.of(job_id) == 1
        archive = sp.folder / "received_checkpoints" / f"{job_id}.tar.gz"
        async with asyncio.timeout(120):
            while not archive.exists() or file_in(archive, "workspace/state") != b"%d\n" % STEPS:
                await asyncio.sleep(0.1)
        await nothing_left(job_id)
        await wait_for(lambda: not list((cp.folder / "workspaces").iterdir()))


@pytest.mark.parametrize(("point", "where", "victim"), RESUMING, ids=names(RESUMING))
async def test_killed_while_it_begins_with_a_checkpoint_a_job_runs_once_and_from_there(
    tmp_path: Path, engine_starts: EngineStarts, point: str, where: str, victim: str
) -> None:
    async with pair(tmp_path) as (sp, cp):
        first = "mkdir /workspace/deep; echo 7 > /workspace/state; head -c 3000000 /dev/urandom > /workspace/deep/x"
        quote = await sp.post("/run/request-service", request_body(first))
        await pay_until_taken(sp, quote["job_id"])
        async with asyncio.timeout(120):
            while "job.checkpoint_received" not in sp.topics(quote["job_id"]):
                await asyncio.sleep(0.05)
        body = request_body(COUNT)
        body["params"]["resume_job"] = {"resume": True, "progress_file": f"{quote['job_id']}.tar.gz"}
        job_id, follower = await started_and_killed(sp, cp, body, point, where, victim, tx_hash="tx-second")
        assert milestones(follower) == ["job-submitted", "deployment-response", "job-completed"]
        assert follower.text("stdout") == f"from 7\nat {STEPS}\n"
        assert engine_starts.of(job_id) == 1
        assert cp.topics(job_id).count("deployment.workspace_restored") == 1
        await nothing_left(job_id)


def milestones(follower: Follower) -> list[str]:
    """Each of its actions came once; what became of checkpoints is left out."""
    assert len(set(follower.actions)) == len(follower.actions)
    return [name for name in follower.names if name != "checkpoint-received"]


async def started_and_killed(
    sp: Dms, cp: Dms, body: dict[str, Any], point: str, where: str, victim: str, tx_hash: str = "tx-crash"
) -> tuple[str, Follower]:
    """The job's id and its follower at its end; the victims are running again."""
    quote = await sp.post("/run/request-service", body)
    job_id = quote["job_id"]
    follower = Follower(sp, job_id)
    following = asyncio.create_task(follower.until_over(120))
    paying = asyncio.create_task(pay_until_taken(sp, job_id, tx_hash))
    watched = sp if where == "sp" else cp
    victims = {"sp": [sp], "cp": [cp], "both": [sp, cp]}[victim]
    await asyncio.to_thread(poll, lambda: point in watched.topics(job_id), point)
    for dms in victims:
        dms.kill9()
    for dms in victims:
        dms.start()
    for dms in victims:
        await dms.ready()
    await paying
    await following
    return job_id, follower
