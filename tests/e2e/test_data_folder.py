"""A daemon in a folder of a strange name, under an open umask; then its log is damaged, and taken away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.database import connect
from dms.domain.job import Job
from tests.fixtures.dms import Dms, request_body
from tests.fixtures.histories import new_job
from tests.integration.test_private_files import open_to_others

JOBS = 300


async def many_jobs(folder: Path) -> None:
    log = SQLiteEventLog(folder / "events.db")
    await log.start()
    for _ in range(JOBS):
        job = new_job()
        job.trigger(Job.Expired(reason="nobody paid"))
        await log.save(job)
    await log.close()


async def asked(dms: Dms, path: str, method: str = "GET", body: Any = None) -> httpx.Response:
    async with httpx.AsyncClient(timeout=120) as client:
        return await client.request(method, f"{dms.url}{path}", json=body)


async def until_not_ready(dms: Dms, said: str) -> None:
    async with asyncio.timeout(120):
        while True:
            with suppress(httpx.TransportError):  # it may just start
                answer = await asked(dms, "/readyz")
                if answer.status_code == 503 and said in answer.text:
                    return
            await asyncio.sleep(0.05)


def verify(dms: Dms) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dms.cli", "audit", "verify", "--database", str(dms.folder / "events.db")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
async def test_a_folder_is_used_as_it_is_called_and_a_damaged_or_missing_log_takes_no_commands(tmp_path: Path) -> None:
    dms = Dms(tmp_path / "node#1 50%20off?", settings={"job.executor": "process"})
    await many_jobs(dms.folder)
    before = os.umask(0)
    try:
        dms.start()
    finally:
        os.umask(before)
    try:
        await dms.ready()
        await dms.onboard()
        assert os.listdir(tmp_path) == [dms.folder.name]  # noqa: PTH208
        (dms.folder / "daemon.log").chmod(0o600)  # the test's own
        assert open_to_others(dms.folder) == {}
        assert dms.stop() == 0
        assert verify(dms).returncode == 0

        with closing(connect(dms.folder / "events.db")) as connection:
            connection.execute("UPDATE event SET time = time + 1 WHERE position = 100")
        assert "position 100 " in verify(dms).stderr + verify(dms).stdout
        dms.start()
        await until_not_ready(dms, "position 100 ")
        status = "/api/v1/device/status"
        answer = await asked(dms, status, "POST", {"is_available": False})
        assert answer.status_code == 503, answer.text
        assert "position 100 " in answer.json()["error"]
        assert "backup" in answer.json()["error"]
        assert (await asked(dms, "/livez")).status_code == 200
        assert (await asked(dms, "/api/v1/jobs")).status_code == 200  # what can be read is served
        assert (await asked(dms, status)).json()["online"] in (True, False)
        assert dms.stop() == 0

        with closing(connect(dms.folder / "events.db")) as connection:
            connection.execute("UPDATE event SET time = time - 1 WHERE position = 100")
        with closing(connect(dms.folder / "events.db")) as connection:  # behind what was verified: seen at the start
            (last, data), *_ = connection.execute("SELECT position, data FROM event ORDER BY position DESC LIMIT 1")
            connection.execute("UPDATE event SET data = x'7b7d' WHERE position = ?", (last,))
        dms.start()
        await until_not_ready(dms, f"position {last} ")
        for method, path, body in (
            ("POST", status, {"is_available": False}),
            ("POST", "/api/v1/onboarding/offboard", None),
            ("POST", "/api/v1/run/request-service", request_body("true")),
            ("POST", "/api/v1/erasures", {"job_id": "x"}),
        ):
            answer = await asked(dms, path, method, body)
            assert answer.status_code in (400, 404, 503), (path, answer.text)
            assert path != status or answer.status_code == 503
        assert (await asked(dms, "/api/v1/jobs")).status_code == 200
        assert dms.stop() == 0

        with closing(connect(dms.folder / "events.db")) as connection:
            connection.execute("UPDATE event SET data = ? WHERE position = ?", (data, last))
        dms.start()
        await dms.ready()
        (dms.folder / "events.db").rename(dms.folder / "old.db")
        await until_not_ready(dms, "events.db was removed or renamed")
        answer = await asked(dms, status, "POST", {"is_available": False})
        assert (answer.status_code, "events.db was removed" in answer.text) == (503, True)
        assert (await asked(dms, "/api/v1/events?limit=5")).status_code == 200
        assert dms.stop() == 0
        assert not (dms.folder / "events.db").exists()
    finally:
        dms.end()
