"""A provider dies for good: its job goes on at another one from its checkpoint. Three daemons, real containers."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from click.testing import CliRunner

from dms.cli.main import cli
from dms.domain.retry import deployment_id
from tests.faults.test_crashes import nothing_left
from tests.fixtures.dms import Dms, Follower, containers_of, payment, poll, request_body

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

STEPS = 60
SUM = STEPS * (STEPS + 1) // 2
COUNT = (
    "cd /workspace; n=0; sum=0; [ ! -e state ] || read n sum < state; echo from $n; "
    f"while [ $n -lt {STEPS} ]; do n=$((n+1)); sum=$((sum+n)); echo $n $sum > new; mv new state; "
    "sleep 0.2; done; echo sum $sum"
)
SETTINGS = {"job.log_update_interval": "0.01", "job.provider_grace": "8", "job.network": "none"}


class Trio:
    """A service provider and two compute providers that it knows."""

    def __init__(self, sp: Dms, providers: dict[str, Dms]) -> None:
        self.sp, self.providers = sp, providers

    def chosen(self, peer_id: str) -> tuple[Dms, Dms]:
        """(the one with that id, the other)."""
        others = [dms for key, dms in self.providers.items() if key != peer_id]
        return self.providers[peer_id], others[0]


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    providers = [Dms(tmp_path / name, settings=SETTINGS) for name in ("one", "two")]
    sp: Dms | None = None
    try:
        for dms in providers:
            dms.start()
        for dms in providers:
            await dms.ready()
        sp = Dms(tmp_path / "sp", settings=SETTINGS, bootstrap=[await dms.address() for dms in providers])
        sp.start()
        await sp.ready()
        for dms in providers:
            await dms.onboard(cpu_share=0.4)
        ids = {(await dms.get("/peers/self"))["ID"]: dms for dms in providers}
        async with asyncio.timeout(120):
            while {p["provider"] for p in (await sp.get("/capacity"))["providers"] if p["online"]} < ids.keys():
                await asyncio.sleep(0.05)
        yield Trio(sp, ids)
    finally:
        for dms in [*providers, *([] if sp is None else [sp])]:
            dms.end()


async def begin(trio: Trio, script: str, attempts: int = 3, **constraints: Any) -> tuple[str, Dms, Dms, Follower]:
    """A paid job whose container runs: its id, its provider, the other one, and who follows it."""
    body = request_body(script, **constraints) | {"retry": {"max_attempts": attempts}}
    quote = await trio.sp.post("/run/request-service", body)
    assert quote["attempts"] == attempts
    await pay(trio.sp, quote["job_id"])
    await until(lambda: "job.deployment_responded" in trio.sp.topics(quote["job_id"]))
    first, second = trio.chosen(quote["compute_provider_id"])
    return quote["job_id"], first, second, Follower(trio.sp, quote["job_id"])


async def pay(sp: Dms, job_id: str) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment(f"tx-{job_id}", job_id))
        await until(lambda: "job.submitted" in sp.topics(job_id))


async def until(probe: Any, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not probe():
            await asyncio.sleep(0.05)


def remove_containers(job_id: str) -> None:
    """As when the machine is gone."""
    for name in containers_of(job_id):
        subprocess.run(["docker", "rm", "-f", "-v", name], check=True, capture_output=True, timeout=120)


def verified(database: Path) -> dict[str, Any]:
    done = CliRunner().invoke(cli, ["-o", "json", "audit", "verify", "--database", str(database)])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["intact"], found
    return found


async def exported(dms: Dms, job_id: str, into: Path) -> Path:
    url = f"http://127.0.0.1:{dms.rest_port}"
    done = await asyncio.to_thread(
        CliRunner().invoke, cli, ["--url", url, "events", "export", "--job", job_id, "-f", str(into)]
    )
    assert done.exit_code == 0, done.output
    return into


async def test_a_job_whose_provider_is_killed_for_good_goes_on_at_another_from_its_checkpoint(
    trio: Trio, tmp_path: Path
) -> None:
    job_id, first, second, follower = await begin(trio, COUNT)
    following = asyncio.create_task(follower.until_over())
    await until(lambda: "job.checkpoint_received" in trio.sp.topics(job_id))
    first.kill9()
    await asyncio.to_thread(remove_containers, job_id)
    await following

    assert [name for name in follower.names if name not in ("funding-pending", "checkpoint-received")] == [
        "job-submitted", "deployment-response", "job-attempt-failed", "job-attempt-started", "job-completed",
    ]  # fmt: skip
    lines = follower.text("stdout").splitlines()
    assert (lines[0], lines[-1]) == ("from 0", f"sum {SUM}")
    reached = int(lines[1].split()[1])
    assert 0 < reached < STEPS
    assert [seq for seq, _, _ in follower.lines] == list(range(1, len(follower.lines) + 1))

    job = await trio.sp.get(f"/jobs/{job_id}")
    again = deployment_id(job_id, 2)
    assert (job["status"], job["attempt"], job["attempts"], job["log_lines"]) == ("completed", 2, 3, 3)
    assert [(a["attempt"], a["fault"]) for a in job["failed_attempts"]] == [(1, "provider")]
    assert "provider lost" in job["failed_attempts"][0]["reason"]
    tx = {"tx_hash": f"tx-{job_id}"}
    ours, theirs = [await dms.post("/transactions/request-reward", tx) for dms in (trio.sp, second)]
    assert (ours["datum"], ours["reward_type"]) == (theirs["datum"], "withdraw")
    listed = [t for t in await trio.sp.get("/transactions") if t["tx_hash"] == f"tx-{job_id}"]
    assert len(listed) == 1

    sp_export = await exported(trio.sp, job_id, tmp_path / "sp.ndjson")
    cp_export = await exported(second, again, tmp_path / "cp.ndjson")
    compared = CliRunner().invoke(cli, ["audit", "verify", "--export", str(sp_export), "--against", str(cp_export)])
    assert compared.exit_code == 0, compared.output
    assert "both sides tell the same" in compared.output
    await nothing_left(again)
    for dms in (trio.sp, first, second):
        verified(dms.folder / "events.db")

    first.start()  # it comes back after all, and finds its container gone
    await first.ready()
    await until(lambda: {"deployment.failed", "deployment.stopped"} & set(first.topics(job_id)))
    back = await first.post("/transactions/request-reward", tx)
    assert (back["reward_type"], back["to_provider"]) == ("refund", "0")


async def test_a_provider_that_comes_back_while_its_container_runs_is_told_to_stop_and_claims_nothing(
    trio: Trio,
) -> None:
    job_id, first, second, follower = await begin(trio, "echo begun; sleep 45; echo done")
    following = asyncio.create_task(follower.until_over(240))
    first.kill9()
    again = deployment_id(job_id, 2)
    await until(lambda: "deployment.container_started" in second.topics(again))
    assert await asyncio.to_thread(containers_of, job_id)
    first.start()
    await first.ready()
    await until(lambda: "deployment.stopped" in first.topics(job_id))
    await nothing_left(job_id)
    await following
    assert follower.names[-1] == "job-completed"
    claims = [await dms.post("/transactions/request-reward", {"tx_hash": f"tx-{job_id}"}) for dms in (first, second)]
    assert [(claim["reward_type"], claim["to_provider"]) for claim in claims] == [
        ("refund", "0"), ("withdraw", claims[1]["price"]),
    ]  # fmt: skip
    await until(lambda: "job.provider_told" in trio.sp.topics(job_id))


async def test_a_client_of_the_original_sees_one_job_and_not_the_failure_of_an_attempt(trio: Trio) -> None:
    job_id, first, _, follower = await begin(trio, "echo begun; sleep 8; echo done")
    seen: list[dict[str, Any]] = []

    async def watch() -> None:
        url = f"ws://127.0.0.1:{trio.sp.rest_port}/api/v1/run/deploy?job_id={job_id}&after=0"
        async with websockets.connect(url) as socket:
            async for text in socket:
                seen.append(json.loads(text))
                if seen[-1]["action"] in ("job-completed", "job-failed"):
                    return

    watching = asyncio.create_task(watch())
    first.kill9()
    await asyncio.to_thread(remove_containers, job_id)
    await follower.until_over(240)
    async with asyncio.timeout(120):
        await watching
    actions = [frame["action"] for frame in seen if frame["action"] != "log-stream-response"]
    assert actions == ["connected", "job-submitted", "deployment-response", "job-completed"]


POINTS = ["job.attempt_failed", "job.attempt_started", "attempt 2 accepted", "attempt 2 started"]


@pytest.mark.parametrize("point", POINTS)
async def test_a_requester_killed_between_two_attempts_goes_on(trio: Trio, point: str) -> None:
    job_id, first, second, follower = await begin(trio, COUNT)
    again = deployment_id(job_id, 2)
    following = asyncio.create_task(follower.until_over(240))
    await until(lambda: "job.checkpoint_received" in trio.sp.topics(job_id))
    first.kill9()
    await asyncio.to_thread(remove_containers, job_id)

    def reached() -> bool:
        if point.startswith("attempt 2"):
            topic = "deployment.accepted" if point.endswith("accepted") else "deployment.container_started"
            return topic in second.topics(again)
        return point in trio.sp.topics(job_id)

    await asyncio.to_thread(poll, reached, point)
    trio.sp.kill9()
    trio.sp.start()
    await trio.sp.ready()
    await following
    job = await trio.sp.get(f"/jobs/{job_id}")
    assert follower.names.count("job-attempt-started") == 1, job["failed_attempts"]
    assert (follower.names[-1], follower.text("stdout").splitlines()[-1]) == ("job-completed", f"sum {SUM}")
    assert [seq for seq, _, _ in follower.lines] == list(range(1, len(follower.lines) + 1))
    topics = trio.sp.topics(job_id)
    assert (topics.count("job.attempt_started"), topics.count("job.completed")) == (1, 1)
    assert second.topics(again).count("deployment.container_started") == 1
    await nothing_left(again)
    verified(trio.sp.folder / "events.db")
