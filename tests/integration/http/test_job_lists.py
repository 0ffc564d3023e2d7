"""REST of many jobs: which are listed, in which order, what they come to; stopping several, each by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.domain.resources import Resources
from tests.fixtures.histories import request as requested
from tests.integration.http.node import ADDRESS, Node, running_node

API = "/api/v1"
OTHER = "12D3KooWOther"
STEP_US = 3_600_000_000


class Hours:
    """A clock of which each look is an hour later, from 2026-01-31T00:00:00Z."""

    def __init__(self) -> None:
        self.time = 1_769_817_600_000_000

    def __call__(self) -> int:
        self.time += STEP_US
        return self.time


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def their_job(
    node: Node, price: str, seconds: float | None = None, *, claimed: bool = False, exit_code: int = 0
) -> str:
    """Runs here for another peer; seconds: until it ended, None for not yet."""
    deployment = Deployment(new_id())
    deployment.ask(OTHER, requested(time=10, tx_hash=new_id()), price, ADDRESS)
    deployment.grant(Resources(cpu_mhz=1), ())
    deployment.container_created("c1", "docker")
    deployment.container_started(1)
    if seconds is not None:
        deployment.trigger(Deployment.ContainerExited(exit_code=exit_code, duration_seconds=seconds))
    if claimed:
        deployment.claim_reward()
    await node.log.save(deployment)
    return deployment.key


async def listed(client: httpx.AsyncClient, query: str) -> tuple[list[str], httpx.Response]:
    answer = await client.get(f"{API}/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [row["job_id"] for row in answer.json()["items"]], answer


async def test_jobs_are_searched_sorted_and_counted(node: Node) -> None:
    waiting, broken = await node.job(), await node.job()
    await node.fail(broken, "Out of MEMORY: killed")
    cheap, dear = await their_job(node, "0.4", 60.0), await their_job(node, "10", 60.0)
    async with node.client() as client:
        for query, expected in (
            ("", [dear, cheap, broken, waiting]),
            ("order=asc", [waiting, broken, cheap, dear]),
            ("q=memory", [broken]),
            (f"q={OTHER[-5:].upper()}", [dear, cheap]),
            (f"q={waiting[9:]}", [waiting]),
            ("image=test/image", [broken, waiting]),
            ("image=registry.example/*", [dear, cheap]),
            ("image=registry.example/", []),
            ("sort=price", [dear, cheap, broken, waiting]),
            ("sort=price&order=asc", [waiting, broken, cheap, dear]),
            ("sort=status&order=asc", [waiting, cheap, dear, broken]),
            ("sort=ended_at&limit=2", [dear, cheap]),
            ("sort=requested_at&offset=1&limit=2", [cheap, broken]),
            ("status=awaiting,failed", [broken, waiting]),
            ("since=2000-01-01T00:00:00Z&until=2001-01-01T00:00:00Z", []),
            ("since=2000-01-01T00:00:00Z", [dear, cheap, broken, waiting]),
        ):
            assert (await listed(client, query))[0] == expected, query
        _, page = await listed(client, "sort=price&limit=3")
        assert page.headers["x-total"] == "4"
        assert page.headers["x-position"] == str(node.log.head)
        rest, last = await listed(client, f"sort=price&limit=3&after={page.json()['next_token']}")
        assert (rest, last.json()["next_token"]) == ([waiting], "")


async def test_both_sides_say_whose_fault_a_jobs_own_failure_was(node: Node) -> None:
    failed = await their_job(node, "0.4", 60.0, exit_code=139)
    async with node.client() as client:
        (row,) = (await client.get(f"{API}/jobs?id={failed}")).json()["items"]
        shown = (await client.get(f"{API}/jobs/{failed}")).json()
    for told in (row, shown):
        assert (told["status"], told["fault"], told["exit_code"]) == ("failed", "job", 139)
        assert told["reason"] == "finished with errors: exit code 139 (killed by signal 11)"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("sort=colour", "?sort"),
        ("order=up", "?order"),
        ("offset=-1", "?offset"),
        ("offset=10000001", "?offset"),
        ("offset=3&after=0199", "?offset"),
        ("since=yesterday", "?since"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "?since"),
        ("sort=price&after=0199", "?after"),
        (f"q={'x' * 201}", "?q"),
    ],
)
async def test_what_is_no_question_is_a_400_that_says_why(node: Node, query: str, pointer: str) -> None:
    async with node.client() as client:
        answer = await client.get(f"{API}/jobs?{query}")
    assert answer.status_code == 400
    assert [problem["pointer"] for problem in answer.json()["errors"]] == [pointer]


async def test_the_list_and_its_sums_are_those_of_the_moment_asked_for(node: Node) -> None:
    first = await node.job()
    await node.submit(first)
    await node.respond(first)
    running_at = node.log.head
    await node.complete(first)
    second = await their_job(node, "0.4", 600.0)
    async with node.client() as client:
        now = (await client.get(f"{API}/jobs/summary")).json()
        assert (now["position"], now["total"], now["by_status"]) == (node.log.head, 2, {"completed": 2})
        assert (now["spent_ntx"], now["earned_ntx"], now["to_claim_ntx"]) == ("0.1", "0.4", "0.4")
        then = (await client.get(f"{API}/jobs/summary?as_of={running_at}")).json()
        assert (then["position"], then["total"], then["by_status"]) == (running_at, 1, {"running": 1})
        assert (then["spent_ntx"], then["earned_ntx"]) == ("0", "0")
        assert (now["open_ntx"], then["open_ntx"]) == ("0", "0.1")
        for left_out in ("role=cp", "status=completed"):
            found = (await client.get(f"{API}/jobs/summary?as_of={running_at}&{left_out}")).json()
            assert found["open_ntx"] == "0"
        found, page = await listed(client, f"as_of={running_at}&status=running&sort=requested_at")
        assert (found, page.headers["x-total"], page.headers["x-position"]) == ([first], "1", str(running_at))
        assert [(row["paid"], row["cost"]) for row in page.json()["items"]] == [(True, "")]
        now_listed, page = await listed(client, "")
        assert now_listed == [second, first]
        assert [(row["paid"], row["cost"]) for row in page.json()["items"]] == [(True, "0.4"), (True, "0.1")]
        of_one = (await client.get(f"{API}/jobs/summary?role=sp")).json()
        assert (of_one["total"], of_one["earned_ntx"]) == (1, "0")


async def test_failures_count_for_24_hours(tmp_path: Path) -> None:
    async with running_node(tmp_path, now=(hours := Hours())) as node:
        for _ in range(2):
            await node.fail(await node.job(), "broken")
        async with node.client() as client:

            async def failed(query: str = "") -> int:
                return int((await client.get(f"{API}/jobs/summary{query}")).json()["failed_in_24_hours"])

            assert await failed() == 2
            at = node.log.head
            hours.time += 48 * STEP_US
            assert await failed() == 0
            assert await failed(f"?as_of={at}") == 2
            assert await failed(f"?as_of={at}&status=completed") == 0


@pytest.mark.parametrize("name", ["q", "image", "peer", "id", "status", "after", "sort", "since"])
async def test_bytes_that_are_no_text_are_no_fault_of_ours(node: Node, name: str) -> None:
    await node.job()
    async with node.client() as client:
        for value in ("%FF%FE", "%ED%A0%80", "%00", "%F0%9F%98%80", "%27%3B--", "*", "~", "1~2"):
            for more in ("", "&sort=price", "&as_of=0"):
                if more.startswith(f"&{name}"):
                    continue
                for path in ("/jobs", "/jobs/summary", "/earnings"):
                    answer = await client.get(f"{API}{path}?{name}={value}{more}")
                    assert answer.status_code in (200, 400), (path, answer.text)


# --- stopping several ----------------------------------------------------------------------------------
async def stop(client: httpx.AsyncClient, **body: Any) -> dict[str, tuple[str, str]]:
    answer = await client.post(f"{API}/jobs/stop", json=body)
    assert answer.status_code == 200, answer.text
    return {told["job_id"]: (told["outcome"], told["status"]) for told in answer.json()["jobs"]}


async def test_several_jobs_are_stopped_each_by_itself_and_none_that_was_not_named(node: Node) -> None:
    waiting, other, over = await node.job(), await node.job(), await node.job()
    await node.fail(over, "broken")
    running, unknown = await their_job(node, "0.4"), new_id()
    named = [waiting, over, unknown, running, waiting]
    async with node.client() as client:
        before = node.log.head
        assert await stop(client, job_ids=named, dry_run=True) == {
            waiting: ("would_stop", "awaiting"), over: ("over", "failed"), unknown: ("unknown", ""),
            running: ("would_stop", "running"),
        }  # fmt: skip
        assert node.log.head == before
        assert await stop(client, job_ids=named, reason="wrong data") == {
            waiting: ("stopping", "failed"), over: ("over", "failed"), unknown: ("unknown", ""),
            running: ("stopping", "stopping"),
        }  # fmt: skip
        assert await stop(client, job_ids=[running, waiting]) == {
            running: ("stopping_already", "stopping"), waiting: ("over", "failed"),
        }  # fmt: skip
        assert (await client.get(f"{API}/jobs/{waiting}")).json()["reason"] == "wrong data"
        assert (await client.get(f"{API}/jobs/{other}")).json()["status"] == "awaiting"


async def test_too_many_or_none_or_what_is_no_id_stops_nothing(node: Node) -> None:
    job = await node.job()
    async with node.client() as client:
        for job_ids in ([], [job, job[:8]], [job, *(new_id() for _ in range(1000))]):
            assert (await client.post(f"{API}/jobs/stop", json={"job_ids": job_ids})).status_code == 400
    found = node.log.load(Job, job)
    assert found is not None
    assert found.open


# --- which position an answer shows --------------------------------------------------------------------
async def test_each_view_says_the_position_that_it_shows_and_the_stream_goes_on_behind_it(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    async with node.client(headers={"origin": node.url}) as client:
        for path in (
            "/jobs", f"/jobs/{job}", f"/jobs/{job}/history", "/jobs/summary", "/capacity", "/providers",
            "/transactions", "/run/checkpoints", "/peers/files", "/device/status", "/peers",
        ):  # fmt: skip
            answer = await client.get(f"{API}{path}")
            assert (answer.status_code, answer.headers["x-position"]) == (200, str(node.log.head)), path
        assert "x-position" not in (await client.get(f"{API}/jobs/{'0' * 36}")).headers
        shown = int((await client.get(f"{API}/jobs")).headers["x-position"])
        await node.respond(job)
        more = await client.get(f"{API}/events?after={shown}")
        assert [json.loads(line)["position"] for line in more.text.splitlines()] == [shown + 1]
