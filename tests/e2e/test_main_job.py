"""The main job, from request to end: two daemons as processes, a real engine, a client of the documented API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
import websockets

from tests.fixtures.dms import Dms, Follower, containers_of, pair, payment, request_body
from tests.fixtures.registry import ALLOW, Registry, registry
from tests.fixtures.waiting import wait_for

__all__ = ["registry"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]


@pytest.fixture
async def dmses(tmp_path: Path) -> AsyncIterator[tuple[Dms, Dms]]:
    async with pair(tmp_path) as both:
        yield both


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Dms, Dms]]:
    """For tests that pay for their own jobs, leave none that awaits its payment, and count none."""
    async with pair(tmp_path_factory.mktemp("shared"), job__image_allow=ALLOW) as both:
        yield both


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def limited(shared: tuple[Dms, Dms]) -> Follower:
    """A job of one minute. It begins before the tests that share the pair, which so need not wait for it."""
    sp, _ = shared
    quote = await sp.post("/run/request-service", request_body("echo on; sleep 600", time=1))
    async with socket_of(sp) as socket:
        await socket.send(payment("tx-long"))
        async with asyncio.timeout(120):
            while orjson.loads(await socket.recv())["action"] != "deployment-response":
                continue
    return Follower(sp, quote["job_id"])


def socket_of(dms: Dms, path: str = "/api/v1/run/deploy", *, v2: bool = False) -> websockets.connect:
    protocols = [websockets.Subprotocol("dms.actions.v2")] if v2 else None
    return websockets.connect(f"ws://127.0.0.1:{dms.rest_port}{path}", subprotocols=protocols, max_size=None)


async def frames_until_over(socket: Any, timeout_seconds: float = 120) -> list[dict[str, Any]]:
    """All frames up to the one that ends the job."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(timeout_seconds):
        while not found or found[-1]["action"] not in ("job-completed", "job-failed"):
            found.append(orjson.loads(await socket.recv()))
    return found


async def run_job(sp: Dms, script: str, tx_hash: str, **constraints: Any) -> list[dict[str, Any]]:
    """Request and pay as the documented client does: no job id anywhere."""
    await sp.post("/run/request-service", request_body(script, **constraints))
    async with socket_of(sp) as socket:
        await socket.send(payment(tx_hash))
        return await frames_until_over(socket, timeout_seconds=600)


async def test_documented_client_sees_its_job_complete(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    frames = await run_job(sp, "echo hello; echo oops >&2", "tx-1")
    actions = [f["action"] for f in frames]
    assert frames[0] == {
        "action": "connected",
        "message": "You are connected to DMS for docker (GPU/CPU) deployment.",
    }
    assert [a for a in actions if a != "log-stream-response"] == [
        "connected", "job-submitted", "deployment-response", "job-completed",
    ]  # fmt: skip
    logs = [f for f in frames if f["action"] == "log-stream-response"]
    assert "".join(f.get("stdout", "") for f in logs) == "hello\n"
    assert "".join(f.get("stderr", "") for f in logs) == "oops\n"
    assert all("message" not in f for f in logs)
    response = next(f for f in frames if f["action"] == "deployment-response")
    assert response["message"]["success"] is True
    async with httpx.AsyncClient(timeout=120) as client:
        page = await client.get(response["message"]["content"])
    assert page.status_code == 200
    assert "hello" in page.text
    jobs = await cp.get("/jobs")
    assert [(job["status"], job["exit_code"]) for job in jobs["items"]] == [("completed", 0)]


@pytest.mark.usefixtures("limited")
async def test_exit_code_3_fails_the_job_naming_it(shared: tuple[Dms, Dms]) -> None:
    frames = await run_job(shared[0], "echo before; exit 3", "tx-3")
    assert [f["action"] for f in frames].count("job-failed") == 1
    assert frames[-1]["action"] == "job-failed"
    assert "3" in frames[-1]["message"]


@pytest.mark.parametrize(
    ("script", "constraints", "reason"),
    [("tail /dev/zero", {"RAM": 16}, "memory"), ("/no/such/program", {}, "127")],
    ids=["out of memory", "command not found"],
)
async def test_what_goes_wrong_in_the_container_is_one_job_failed_that_says_why(
    shared: tuple[Dms, Dms], script: str, constraints: dict[str, Any], reason: str
) -> None:
    sp, _ = shared
    await sp.post("/run/request-service", request_body(script, **constraints))
    async with socket_of(sp, "/run/deploy") as socket:
        await socket.send(payment(f"tx-wrong-{reason}"))
        frames = await frames_until_over(socket)
    assert [f["action"] for f in frames if f["action"] == "job-failed"] == ["job-failed"]
    assert reason in frames[-1]["message"]


async def test_an_image_that_nobody_has_is_refused_before_the_payment_with_its_field(
    shared: tuple[Dms, Dms], registry: Registry
) -> None:
    sp, _ = shared
    body = request_body("exit 1")
    body["params"]["image_id"] = f"{registry.address}/there-is-no-such-image:1"
    refused = await sp.post("/run/request-service", body, expect=400)
    (error,) = refused["errors"]
    assert error["pointer"] == "/params/image_id"
    assert "there-is-no-such-image:1 can't be pulled" in error["detail"]
    assert (await sp.get("/jobs?status=awaiting"))["items"] == [], "nothing is quoted, so nothing can be paid"


async def test_a_job_that_never_ran_names_the_refund_and_its_payment_pays_for_the_next(
    shared: tuple[Dms, Dms], registry: Registry
) -> None:
    sp, _ = shared
    registry.publish("team/goes-away", "1")
    body = request_body("exit 0")
    body["params"]["image_id"] = f"{registry.address}/team/goes-away:1"
    quote = await sp.post("/run/request-service", body)
    assert (quote["held_until"] is not None, quote["warnings"]) == (True, [])
    registry.blobs.clear()
    async with socket_of(sp) as socket:
        await socket.send(payment("tx-goes-away", quote["job_id"]))
        frames = await frames_until_over(socket)
    assert frames[-1]["action"] == "job-failed"
    assert "all of its price is owed back, and its payment can pay for another job" in frames[-1]["message"]
    assert (await sp.get(f"/jobs/{quote['job_id']}"))["refund"] is True
    again = await run_job(sp, "echo ran", "tx-goes-away")
    assert again[-1]["action"] == "job-completed"


async def test_one_payment_pays_for_one_job(shared: tuple[Dms, Dms]) -> None:
    sp, _ = shared
    first = await run_job(sp, "echo 1", "tx-once")
    assert first[-1]["action"] == "job-completed"
    second = await run_job(sp, "echo 2", "TX-Once")
    assert second[-1]["action"] == "job-failed"
    assert "used already" in second[-1]["message"]


async def test_payment_reported_twice_runs_the_job_once(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    older = await sp.post("/run/request-service", request_body("echo older"))
    await sp.post("/run/request-service", request_body("sleep 1; echo once"))
    async with socket_of(sp) as socket:
        await socket.send(payment("tx-twice"))
        await socket.send(payment("tx-twice"))
        frames = await frames_until_over(socket)
        assert frames[-1]["action"] == "job-completed"
        await socket.send(payment("tx-twice"))
    assert [f["action"] for f in frames].count("job-submitted") == 1
    assert (await sp.get(f"/jobs/{older['job_id']}"))["status"] == "awaiting"
    assert len((await cp.get("/jobs"))["items"]) == 1


async def test_output_arrives_while_the_container_runs(shared: tuple[Dms, Dms]) -> None:
    """Each line carries the container's clock, which is this machine's; the delay is measured against it."""
    sp, _ = shared
    script = "i=0; while [ $i -lt 10 ]; do cat /proc/uptime; i=$((i+1)); sleep 0.2; done"
    await sp.post("/run/request-service", request_body(script))
    delays: list[float] = []
    async with socket_of(sp) as socket:
        await socket.send(payment("tx-live"))
        async with asyncio.timeout(120):
            while True:
                frame = orjson.loads(await socket.recv())
                if frame["action"] == "log-stream-response":
                    now = time.clock_gettime(time.CLOCK_BOOTTIME)
                    delays += [now - float(line.split()[0]) for line in frame["stdout"].splitlines()]
                if frame["action"] == "job-completed":
                    break
    assert len(delays) == 10
    assert min(delays[:5]) < 1, delays  # else it came at the end; a busy machine holds up some


async def test_hundred_thousand_lines_arrive_once_and_in_order(shared: tuple[Dms, Dms]) -> None:
    sp, _ = shared
    script = "seq 1 50000; seq 1 50000 >&2"
    quote = await sp.post("/run/request-service", request_body(script))
    async with socket_of(sp) as socket:
        await socket.send(payment("tx-lines"))
        frames = await frames_until_over(socket, timeout_seconds=600)
    assert frames[-1]["action"] == "job-completed"
    expected = "".join(f"{i}\n" for i in range(1, 50001))
    assert "".join(f.get("stdout", "") for f in frames) == expected
    assert "".join(f.get("stderr", "") for f in frames) == expected
    again = Follower(sp, quote["job_id"])
    await again.until_over(600)
    assert [seq for seq, _, _ in again.lines] == list(range(1, 100001))
    assert again.text("stdout") == again.text("stderr") == expected


async def test_no_provider_is_a_404_with_the_reason_for_each(shared: tuple[Dms, Dms]) -> None:
    sp, cp = shared
    answer = await sp.post("/run/request-service", request_body("true", CPU=90_000_000), expect=404)
    own = await cp.get("/peers/self")
    assert own["ID"] in str(answer)
    assert "90000000 MHz CPU asked" in str(answer)


async def test_twenty_jobs_at_once_never_hold_more_than_was_onboarded(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    offered = (await cp.get("/capacity"))["providers"][0]["onboarded"]
    cpu = offered["cpu_mhz"] // 4
    quotes = await asyncio.gather(
        *(sp.post("/run/request-service", request_body("sleep 0.3", CPU=cpu)) for _ in range(20))
    )
    followers = [Follower(sp, quote["job_id"]) for quote in quotes]
    async with socket_of(sp) as socket:
        for number, quote in enumerate(quotes):
            await socket.send(payment(f"tx-many-{number}", quote["job_id"]))
        await asyncio.gather(*(follower.until_over() for follower in followers))
    ended = [follower.names[-1] for follower in followers]
    assert ended.count("job-completed") >= 4
    for follower in followers:
        if follower.names[-1] == "job-failed":
            assert "no capacity left" in str(follower.last_message)
    assert peak_reserved(await history(cp)) <= offered["cpu_mhz"]
    await assert_views_equal_a_rebuild(sp)
    await assert_views_equal_a_rebuild(cp)
    await wait_for(lambda: not [name for quote in quotes for name in containers_of(quote["job_id"])])


async def test_time_limit_stops_the_job_and_says_so(limited: Follower) -> None:
    await limited.until_over(100)
    assert limited.names == ["job-submitted", "deployment-response", "job-failed"]
    assert "time limit of 1 min reached" in limited.last_message


async def history(dms: Dms) -> list[dict[str, Any]]:
    """All events of all jobs, by position."""
    items = (await dms.get("/jobs?limit=100"))["items"]
    found: list[dict[str, Any]] = []
    for job in items:
        answer = await dms.get(f"/jobs/{job['job_id']}/history")
        found += answer["items"] if isinstance(answer, dict) else answer
    return sorted(found, key=lambda event: int(event["position"]))


def peak_reserved(events: list[dict[str, Any]]) -> int:
    """The most CPU (MHz) that was held at any position."""
    held: dict[str, int] = {}
    peak = 0
    for event in events:
        job = event["correlation_id"]
        if event["topic"] == "deployment.accepted":
            held[job] = event["data"]["reserved"]["cpu_mhz"]
        elif event["topic"] in ("deployment.container_exited", "deployment.failed", "deployment.stopped"):
            held.pop(job, None)
        peak = max(peak, sum(held.values()))
    return peak


async def assert_views_equal_a_rebuild(dms: Dms) -> None:
    before = [await dms.get("/jobs?limit=100"), await dms.get("/capacity")]
    for name in ("jobs", "capacity"):
        await dms.post(f"/projections/{name}/rebuild", {})
    assert [await dms.get("/jobs?limit=100"), await dms.get("/capacity")] == before
