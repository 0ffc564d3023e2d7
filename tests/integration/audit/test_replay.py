"""`nunet replay` on a log that its daemon holds: reads only, and gives the views that the daemon has."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.views.sqlite import SQLiteViews
from dms.domain.directory import Offering, Provider
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.domain.resources import Resources
from projections.all import all_projections
from tests.fixtures import prepared
from tests.fixtures.histories import request
from tests.fixtures.worlds import history


def nunet_replay(database: Path, *options: str, code: int = 0) -> Any:
    done = prepared.run(["-o", "json", "replay", "--database", str(database), *options], os.environ)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def digests(folder: Path) -> dict[str, str]:
    """Of what is stored; the index of the write-ahead log (-shm) holds readers' marks."""
    files = (path for path in sorted(folder.iterdir()) if path.suffix != ".db-shm")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


async def test_a_log_in_use_is_replayed_into_the_views_that_its_daemon_has_and_not_touched(tmp_path: Path) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    views = SQLiteViews(tmp_path / "views.db", log, all_projections())
    await views.start()
    for aggregate in history(random.Random(5), 200):
        await log.save(aggregate)
    await views.wait(log.head)
    await views.close()
    before = digests(tmp_path)
    found = nunet_replay(tmp_path / "events.db")
    assert digests(tmp_path) == before
    assert found["events"] == log.head
    assert found["what_if"] is None
    with closing(sqlite3.connect(tmp_path / "views.db")) as connection, connection:
        for view in found["views"]:
            stored = connection.execute(f"SELECT count(*) FROM view_{view['name']}").fetchone()[0]
            assert view["rows"] == stored, view
    await log.close()


async def test_a_policy_is_held_against_the_stored_jobs(tmp_path: Path) -> None:
    log = SQLiteEventLog(tmp_path / "events.db")
    await log.start()
    for peer_id, price in (("a", "1"), ("b", "2")):
        provider = Provider(peer_id)
        free = Resources(cpu_mhz=4000, memory_mb=8000)
        provider.advertise(
            Offering(channel="nunet-test", online=True, onboarded=True, offered=free, ntx_price=price), ()
        )
        await log.save(provider)
    job = Job(new_id())
    job.request_service(request(), "a", "1", 2**50, (), 0)
    await log.save(job)
    await log.close()
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"excluded_providers": ["a"]}))
    (change,) = nunet_replay(tmp_path / "events.db", "--with", str(policy))["what_if"]["changes"]
    assert (change["job_id"], change["would_provider"], change["would_price"]) == (job.key, "b", "2")


def test_bad_files_are_named(tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"colour": "red"}')
    assert "colour" in nunet_replay(tmp_path / "events.db", "--with", str(policy), code=2)
    assert "there is no such log" in nunet_replay(tmp_path / "events.db", code=3)
    assert "there is no such policy" in nunet_replay(tmp_path / "events.db", "--with", str(tmp_path / "none"), code=3)
