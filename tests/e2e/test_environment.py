"""A job's environment variables reach its container, and the secret ones nobody else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.test_main_job import frames_until_over, socket_of
from tests.fixtures import prepared
from tests.fixtures.dms import Dms, pair, payment, request_body
from tests.fixtures.jobs import until
from tests.fixtures.live_folders import files_with
from tests.fixtures.nats import NatsServer, stored
from tests.fixtures.plain_http import NO_TLS

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

SECRET = 'hf_5ecret-"Zäuberwort"\n$HOME=x'
PARTS = ("hf_5ecret", "uberwort")  # however the rest is written
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
SCRIPT = 'echo "rounds: $ROUNDS"; printf %s "$HF_Token" | sha256sum; sleep 5'


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.kill9()


@pytest.fixture
async def dmses(tmp_path: Path, nats: NatsServer) -> AsyncIterator[tuple[Dms, Dms]]:
    async with pair(tmp_path, nats__url=nats.url) as both:
        yield both


async def run(sp: Dms, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The job's id, and all that its client is told."""
    quote = await sp.post("/run/request-service", body)
    async with socket_of(sp) as socket:
        await socket.send(payment("0x5EC" + "7" * 61, quote["job_id"]))
        return quote["job_id"], await frames_until_over(socket)


async def command_lines_during(work: asyncio.Task[Any]) -> str:
    """What any user sees meanwhile of all that runs."""
    seen = set[str]()
    while not work.done():
        seen |= {" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
        await asyncio.wait([work], timeout=0.05)
    return "\n".join(seen)


def shown_by_cli(dms: Dms, job_id: str) -> str:
    commands = (
        ["job", "list"], ["job", "describe", job_id], ["job", "history", job_id], ["job", "why", job_id],
        ["job", "logs", job_id],
    )  # fmt: skip
    environment = {"DMS_URL": dms.url, "PATH": "/usr/bin:/bin"}
    done = [prepared.run([*command], environment) for command in commands]
    assert not any(each.returncode for each in done), done
    return "".join(each.stdout + each.stderr for each in done)


async def served(dms: Dms, job_id: str) -> str:
    paths = (
        f"/jobs/{job_id}", f"/jobs/{job_id}/history", "/events", "/events?personal=true", "/events/export",
        f"/events/export?job_id={job_id}", "/jobs",
    )  # fmt: skip
    async with httpx.AsyncClient(base_url=f"{dms.url}/api/v1", timeout=60, verify=NO_TLS) as client:
        answers = [await client.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    return "".join(answer.text for answer in answers)


async def relayed(nats: NatsServer, job_id: str) -> str:
    """What the broker has of the job, once both ends of it are there."""

    async def both_ends() -> str | None:
        found = str([each for each in await stored(nats) if job_id in str(each)])
        return found if "job.completed" in found and "deployment.container_exited" in found else None

    return await until(both_ends)


async def test_a_secret_reaches_the_container_and_stands_nowhere_else(
    dmses: tuple[Dms, Dms], tmp_path: Path, nats: NatsServer
) -> None:
    sp, _ = dmses
    body = request_body(SCRIPT)
    body["params"] |= {"env": {"ROUNDS": "12"}, "secret_env": {"HF_Token": SECRET}}
    running = asyncio.create_task(run(sp, body))
    command_lines = await command_lines_during(running)
    job_id, frames = running.result()
    output = "".join(frame.get("stdout", "") for frame in frames)
    assert f"rounds: 12\n{DIGEST}" in output
    for dms in dmses:
        assert "HF_Token" in await served(dms, job_id)  # the name is no secret to who may read the job
        for text in (await served(dms, job_id), await asyncio.to_thread(shown_by_cli, dms, job_id), str(frames)):
            assert not [part for part in PARTS if part in text]
    assert not [part for part in PARTS if part in await relayed(nats, job_id)]
    assert "sha256sum" in command_lines
    assert not [part for part in PARTS if part in command_lines]
    assert await asyncio.to_thread(files_with, tmp_path, *PARTS) == []
