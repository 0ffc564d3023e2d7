"""A daemon whose setting says so archives what is old at its start, and goes on as before."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.database import connect
from dms.domain.job import Job
from tests.fixtures.dms import Dms
from tests.fixtures.histories import START, new_job, paid

JOBS = 60
ADDED = [
    "device.hindered",  # nothing confines jobs of peers here
    "device.onboarded",
    "device.network_changed",
]


async def old_jobs(folder: Path) -> str:
    """So many jobs that ended long ago; answers the first one's id."""
    times = itertools.count(START)
    log = SQLiteEventLog(folder / "events.db", lambda: next(times))
    await log.start()
    first = ""
    for number in range(JOBS):
        job = new_job()
        first = first or job.key
        job.report_fund_status(paid(f"0x{number}"))
        job.accept_funding("trust")
        job.trigger(Job.DeploymentResponded(success=True, content=""))
        job.trigger(Job.Completed(duration_seconds=1.0))
        await log.save(job)
    await log.close()
    return first


def topics_behind(dms: Dms, position: int) -> list[str]:
    with contextlib.closing(connect(dms.folder / "events.db", read_only=True)) as db:
        rows = db.execute(
            "SELECT t.name FROM event e JOIN topic t ON t.id = e.topic WHERE e.position > ? ORDER BY e.position",
            (position,),
        ).fetchall()
    return [str(name) for (name,) in rows]


async def test_old_events_are_archived_at_the_start_and_read_as_before(tmp_path: Path) -> None:
    dms = Dms(tmp_path / "dms", settings={"job.executor": "process", "eventlog.archive_after_days": "30"})
    job = await old_jobs(dms.folder)
    old = dms.head()
    try:
        dms.start()
        await dms.ready()
        async with asyncio.timeout(120):
            while (found := await dms.get("/archive"))["first_position"] != old + 1 or dms.topics(job):
                await asyncio.sleep(0.05)
        assert found["after_days"] == 30
        assert [(one["first"], one["last"], one["state"]) for one in found["items"]] == [(1, old, "ok")]
        steps = (await dms.get(f"/jobs/{job}/history"))["items"]
        assert steps[-1]["topic"] == "job.completed"
        await dms.onboard()
        async with asyncio.timeout(120):
            while len(added := topics_behind(dms, old)) < len(ADDED):
                await asyncio.sleep(0.05)
        assert added == ADDED
        assert dms.stop() == 0
        dms.start()  # over a log whose oldest part is in files alone
        await dms.ready()
        assert len((await dms.get(f"/jobs/{job}/history"))["items"]) == len(steps)
        assert (await dms.get("/onboarding/status"))["onboarded"] is True
    finally:
        dms.end()
