"""The archive over REST and at the command line: run, list, and what readers see of archived events."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from dms.domain.event import Recorded
from dms.domain.payment import Payment
from tests.fixtures import prepared
from tests.integration.http.node import Node, running_node

API = "/api/v1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def ended_job(node: Node) -> str:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.complete(job)
    return job


async def got(node: Node, path: str, status: int = 200) -> Any:
    async with node.client() as client:
        answer = await client.get(API + path)
    assert answer.status_code == status, answer.text
    return answer


async def archive(node: Node, body: Any = None, status: int = 200) -> Any:
    async with node.client() as client:
        answer = await client.post(f"{API}/archive/run", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def nunet(node: Node, *arguments: str, code: int = 0) -> str:
    done = await asyncio.to_thread(prepared.run, ["--url", node.url, *arguments], os.environ)
    assert done.returncode == code, done.stderr
    return str(done.stdout or done.stderr)


async def events_of(node: Node, query: str = "") -> list[Any]:
    return [json.loads(line) for line in (await got(node, f"/events{query}")).text.splitlines()]


async def test_what_is_archived_is_listed_and_read_as_before(node: Node) -> None:
    job = await ended_job(node)
    whole = await node.log.read(0, 100)
    before = {
        path: (await got(node, path)).text
        for path in (
            f"/jobs/{job}", f"/jobs/{job}/history", "/jobs?as_of=3", f"/jobs/{job}?as_of=2", "/diff?from=1&to=3",
            f"/events?job_id={job}", f"/events?job_id={job}&after=2",
        )
    }  # fmt: skip
    assert (await got(node, "/archive")).json()["items"] == []
    run = await archive(node, {"older_than_days": 0})
    assert (run["segment"]["first"], run["segment"]["last"]) == (1, len(whole))
    assert (run["rows_removed"], run["more"], run["first_position"]) == (len(whole), False, len(whole) + 1)
    listed = (await got(node, "/archive")).json()
    assert listed["items"] == [run["segment"]]
    assert listed["items"][0]["state"] == "ok"
    assert listed["items"][0]["hash"] == whole[-1].hash.hex()
    for path, text in before.items():
        assert (await got(node, path)).text == text, path
    assert (await archive(node, {"older_than_days": 0}))["segment"] is None


async def test_streams_begin_behind_the_archive_and_an_older_cursor_is_told_where(node: Node) -> None:
    await ended_job(node)
    await archive(node, {"older_than_days": 0})
    first = node.log.first
    later = await ended_job(node)
    for query in ("?after=0", f"?after={first - 2}", "?after=1&type=job.completed"):
        told = (await got(node, f"/events{query}", 410)).json()
        assert told["first_position"] == first
        assert f"go on with after={first - 1}" in told["error"]
    with pytest.raises(websockets.InvalidStatus) as refused:
        await node.connect("?after=0", path=f"{API}/events/ws")
    assert refused.value.response.status_code == 410
    positions = [event["position"] for event in await events_of(node)]
    assert positions == list(range(first, node.log.head + 1))
    assert [event["position"] for event in await events_of(node, f"?after={first - 1}")] == positions
    completed = await events_of(node, "?type=job.completed")
    assert [event["subject"] for event in completed] == [f"job-{later}"]


@pytest.mark.slow
async def test_a_socket_follows_an_archived_job_from_its_beginning(node: Node) -> None:
    job = await ended_job(node)
    await archive(node, {"older_than_days": 0})
    async with node.connect(f"?job_id={job}&after=0&actions=core") as socket:
        actions = [json.loads(message)["action"] async for message in socket]  # closed when the job is over
    assert actions == ["job-submitted", "deployment-response", "job-completed"]


async def test_a_reward_of_an_archived_job_is_claimed(node: Node) -> None:
    job = await ended_job(node)
    payment = Payment("ab01")
    payment.use(job)
    await node.log.save(payment)
    await archive(node, {"older_than_days": 0})
    async with node.client() as client:
        claimed = await client.post(f"{API}/transactions/request-reward", json={"tx_hash": "ab01"})
    assert claimed.status_code == 200, claimed.text
    found = [event.topic for event in await node.log.read(0, 100, stream=f"job-{job}")]
    assert found[-1] == "job.reward_claimed"
    assert len(found) == node.log.head - 1


async def test_never_is_said_and_wrong_input_refused(node: Node) -> None:
    assert "archive_after_days is 0" in (await archive(node, status=400))["error"]
    for days in (-1, 40_000, "soon"):
        assert (await archive(node, {"older_than_days": days}, 400))["errors"][0]["pointer"] == "/older_than_days"
    assert (await archive(node, {"older_than_days": 1}))["segment"] is None
    await got(node, "/archive?limit=0", 400)
    await got(node, "/archive?after=-1", 400)


async def test_a_missing_file_is_told_to_who_needs_it_and_to_nobody_else(node: Node) -> None:
    job = await ended_job(node)
    file = Path((await archive(node, {"older_than_days": 0}))["segment"]["file"])
    await ended_job(node)
    await asyncio.to_thread(file.unlink)
    assert (await got(node, "/archive")).json()["items"][0]["state"] == "missing"
    assert len(await events_of(node)) == node.log.head + 1 - node.log.first
    for path in (f"/jobs/{job}/history", f"/jobs/{job}/verification"):
        told = (await got(node, path, 503)).json()["error"]
        assert file.name in told
        assert "positions 1 to" in told


async def test_a_record_that_could_not_be_read_verifies_once_its_file_is_back(node: Node) -> None:
    """What was found before is not kept for it."""
    job = await ended_job(node)
    file = Path((await archive(node, {"older_than_days": 0}))["segment"]["file"])
    away = await asyncio.to_thread(file.rename, file.with_name("away"))
    await got(node, f"/jobs/{job}/verification", 503)
    await asyncio.to_thread(away.rename, file)
    assert (await got(node, f"/jobs/{job}/verification")).json()["checks"][0]["result"] == "verified"


@pytest.mark.slow
async def test_the_commands(node: Node) -> None:
    assert "nothing is archived" in await nunet(node, "archive", "list")
    job = await ended_job(node)
    assert "older_than_days" in await nunet(node, "archive", "run", code=1)
    assert "no events are that old" in await nunet(node, "archive", "run", "--older-than", "1")
    assert f"first position is {node.log.head + 1} now" in await nunet(node, "archive", "run", "--older-than", "0")
    (listed,) = json.loads(await nunet(node, "-o", "json", "archive", "list"))
    assert (listed["first"], listed["last"], listed["state"]) == (1, node.log.head, "ok")
    assert "events-000000000001-" in await nunet(node, "archive", "list")
    report = json.loads(await nunet(node, "-o", "json", "audit", "verify", "--export", listed["file"]))
    assert (report["events"], report["hash"]) == (node.log.head, listed["hash"])
    assert "completed" in await nunet(node, "job", "history", job)
    assert "go on with after=" in await nunet(node, "events", "tail", "--after", "0", code=3)
    second = await ended_job(node)
    for options in ((), ("--type", "job"), ("--limit", "500")):
        assert second in await nunet(node, "events", "tail", *options)
    assert job in await nunet(node, "events", "tail", "--job", job)
    assert (await nunet(node, "events", "export")).count('"position"') == node.log.head + 1  # and the footer's


async def test_the_log_of_a_node_reads_on_where_it_was_archived(node: Node) -> None:
    """Positions and hashes go on as if nothing had been moved."""
    await ended_job(node)
    await archive(node, {"older_than_days": 0})
    await ended_job(node)
    found: list[Recorded] = list(await node.log.read(0, 100))
    assert [event.position for event in found] == list(range(1, node.log.head + 1))
    assert [node.log.previous_hash(event.position + 1) for event in found] == [event.hash for event in found]
