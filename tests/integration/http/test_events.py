"""The event stream over HTTP: three forms, one cursor, filters, and readers that are cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import websockets

from dms.adapters.http import events as events_module
from dms.adapters.http import streams
from dms.application.records.cloudevents import CloudEvent
from dms.application.records.event_stream import EventFilter, events
from dms.domain.device import Device
from dms.domain.directory import Provider
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import ADDRESS, PROVIDER, Node, running_node

API = "/api/v1"
ONBOARD = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}
WS = f"{API}/events/ws"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def toggled(node: Node, times: int) -> None:
    """Two events, then one each time."""
    async with node.client() as client:
        assert (await client.post(f"{API}/onboarding/onboard", json=ONBOARD)).status_code == 200
        for number in range(times):
            answer = await client.post(f"{API}/device/status", json={"is_available": number % 2 == 1})
            assert answer.status_code == 200


def decoded(text: str) -> list[CloudEvent]:
    return [msgspec.json.decode(line, type=CloudEvent) for line in text.splitlines() if line]


async def got(node: Node, query: str = "", **headers: str) -> httpx.Response:
    async with node.client() as client:
        return await client.get(f"{API}/events{query}", headers=headers)


async def positions(node: Node, query: str = "") -> list[int]:
    answer = await got(node, query)
    assert answer.status_code == 200, answer.text
    return [event.position for event in decoded(answer.text)]


async def test_json_lines_are_cloud_events_in_order(node: Node) -> None:
    await toggled(node, 3)
    answer = await got(node)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["x-head"] == "4"
    found = decoded(answer.text)
    assert [event.position for event in found] == [1, 2, 3, 4]
    assert [event.type for event in found] == ["io.nunet.dms.device.onboarded.v2"] + [
        "io.nunet.dms.device.availability_changed.v1"
    ] * 3
    assert found[1].data == {"available": False}


async def test_a_cursor_and_a_limit(node: Node) -> None:
    await toggled(node, 6)
    assert await positions(node, "?after=4") == [5, 6, 7]
    assert await positions(node, "?after=2&limit=2") == [3, 4]
    assert await positions(node, "?after=7") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?after=99", 400),
        ("?after=-1", 400),
        ("?after=x", 400),
        ("?limit=0", 400),
        ("?type=;drop", 400),
        ("?since=yesterday", 400),
        ("?job_id=1", 404),
        ("?after=1&after=2", 400),
    ],
)
async def test_a_wrong_question_says_what_is_wrong(node: Node, query: str, status: int) -> None:
    answer = await got(node, query)
    assert answer.status_code == status
    assert answer.json()["error"]
    with pytest.raises(websockets.InvalidStatus) as refused:
        await node.connect(query, path=WS)
    assert refused.value.response.status_code == status


async def test_an_archived_cursor_is_gone_and_the_first_available_is_named(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await toggled(node, 6)
    monkeypatch.setattr(type(node.log), "first", property(lambda _: 5))
    answer = await got(node, "?after=3")
    assert answer.status_code == 410
    assert answer.json()["first_position"] == 5
    assert await positions(node, "?after=4") == [5, 6, 7]


async def test_filters(node: Node) -> None:
    await toggled(node, 2)
    job, other = await node.job(), await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.complete(job)
    all_events = decoded((await got(node)).text)
    of_job = [event.position for event in all_events if event.subject == f"job-{job}"]
    assert await positions(node, f"?job_id={job}") == of_job
    assert await positions(node, f"?job_id={job}&after={of_job[2]}") == of_job[3:]
    assert await positions(node, "?type=device") == [1, 2, 3]
    assert await positions(node, "?type=device.availability_changed,job.completed") == [2, 3, of_job[-1]]
    assert len(await positions(node, "?type=job.*")) == len(all_events) - 3
    assert await positions(node, f"?provider={PROVIDER}") == [e.position for e in all_events if "job-" in e.subject]
    assert await positions(node, f"?provider={node.services.network.peer_id}") == [1, 2, 3]
    middle = all_events[3].time
    before, after = await positions(node, f"?until={middle}"), await positions(node, f"?since={middle}")
    assert before + after == [event.position for event in all_events]
    assert 4 in after
    assert f"job-{other}" in {event.subject for event in all_events}


async def test_server_sent_events_resume_by_the_header_that_browsers_send(node: Node) -> None:
    await toggled(node, 4)
    answer = await got(node, "?after=1", accept="text/event-stream", **{"last-event-id": "3"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [frame for frame in answer.text.split("\n\n") if frame and not frame.startswith(":")]
    assert [frame.splitlines()[0] for frame in frames] == ["id: 4", "id: 5"]
    assert frames[0].splitlines()[1] == "event: device.availability_changed"
    assert decoded(frames[0].splitlines()[2].removeprefix("data: "))[0].position == 4


async def test_a_silent_stream_says_that_it_lives(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "ALIVE_SECONDS", 0.05)
    await toggled(node, 1)
    async with node.client() as client, asyncio.timeout(120):
        url = f"{API}/events?follow=true&after=2"
        async with client.stream("GET", url, headers={"accept": "text/event-stream"}) as answer:
            lines = answer.aiter_lines()
            assert [await anext(lines) for _ in range(4)] == [": open", "", ":", ""]


async def test_too_many_streams_are_refused(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 1)
    async with node.connect("", path=WS), node.client() as client:
        async with asyncio.timeout(120):
            while (await client.get(f"{API}/events")).status_code != 503:
                await asyncio.sleep(0.01)


async def test_of_one_job_the_same_comes_live_and_later(node: Node) -> None:
    """Whatever else was recorded for its sake."""
    job = await node.job()
    wanted, own = EventFilter(job_id=job), node.services.network.peer_id
    async with asyncio.timeout(120), aclosing(events(node.log, wanted, 0, own, follow=True)) as batches:
        live = list(await anext(batches))
        await node.hold_and_use_payment(job)
        await node.submit(job)
        while live[-1].position < node.log.head:
            live += await anext(batches)
    assert [event.position for event in live] == await positions(node, f"?job_id={job}")


# --- readers that are cut off -------------------------------------------------------------------------
async def read_json_lines(node: Node, after: int, most: int) -> list[int]:
    found: list[int] = []
    async with node.client() as client, client.stream("GET", f"{API}/events?follow=true&after={after}") as answer:
        async for line in answer.aiter_lines():
            if line:
                found.append(json.loads(line)["position"])
            if len(found) == most:
                return found
    return found


async def read_server_sent(node: Node, after: int, most: int) -> list[int]:
    found: list[int] = []
    headers = {"accept": "text/event-stream", "last-event-id": str(after)}
    url = f"{API}/events?follow=true"
    async with node.client() as client, client.stream("GET", url, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                found.append(int(line[4:]))
            if len(found) == most:
                break
    return found


async def read_websocket(node: Node, after: int, most: int) -> list[int]:
    found: list[int] = []
    async with node.connect(f"?after={after}", path=WS) as ws:
        while len(found) < most:
            found.append(json.loads(await ws.recv())["position"])
        ws.transport.abort()
    return found


@pytest.mark.parametrize("read", [read_json_lines, read_server_sent, read_websocket])
@pytest.mark.slow
async def test_a_reader_that_is_cut_again_and_again_sees_each_position_once(node: Node, read: Any) -> None:
    """Cut at random points while events are recorded, it goes on behind the last position it saw."""
    total = 400
    cuts = random.Random(7)
    seen: list[int] = []

    async def record() -> None:
        await toggled(node, total - 1)

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(record())
        while len(seen) < total:
            left = total - len(seen)
            seen += await read(node, seen[-1] if seen else 0, min(left, cuts.randint(1, 40)))
    assert seen == list(range(1, total + 1))


async def test_a_reader_is_told_of_a_failure_and_where_to_go_on(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    await toggled(node, 0)
    async with node.connect("?after=0", path=WS) as ws:
        first = json.loads(await ws.recv())["position"]
        monkeypatch.setattr(events_module, "cloud_event", lambda *_, **__: 1 // 0)
        async with node.client() as client:
            await client.post(f"{API}/device/status", json={"is_available": False})
        with contextlib.suppress(websockets.ConnectionClosed):
            async with asyncio.timeout(120):
                while True:
                    first = json.loads(await ws.recv())["position"]
        assert ws.close_code == 1011
        assert ws.close_reason == f"go on with after={first}: internal error; it is in the log of the DMS"


async def test_a_reader_too_slow_is_told_where_to_go_on(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "SEND_SECONDS", 0.3)
    device = Device("p")
    for number in range(3000):
        device.trigger(Device.DefaultProviderChanged(peer_id=f"{number:0>900}"))
    await node.log.save(device)
    async with node.connect("?after=0", path=WS) as ws:
        ws.transport.pause_reading()
        await wait_for(lambda: not any(one.socket and one.socket.open for one in node.connections))  # it gave up
        ws.transport.resume_reading()
        last = [json.loads(message)["position"] async for message in closed_at_last(ws)][-1]
    assert ws.close_code == 1013
    assert int(str(ws.close_reason).rpartition("=")[2]) >= last > 0


async def closed_at_last(ws: Any) -> AsyncIterator[str]:
    """All messages until the server closes, for whatever reason."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            yield await ws.recv()


# --- the past ------------------------------------------------------------------------------------------
async def test_as_of_a_position_or_a_time(node: Node) -> None:
    await toggled(node, 2)
    job = await node.job()
    await node.submit(job)
    found = decoded((await got(node)).text)
    quoted, reported = found[3], found[4]
    async with node.client() as client:
        for moment, status in (
            (quoted.position, "awaiting"),
            (quoted.time, "awaiting"),
            (reported.position, "funding"),
        ):
            shown = await client.get(f"{API}/jobs/{job}", params={"as_of": str(moment)})
            assert shown.json()["status"] == status
        assert (await client.get(f"{API}/jobs/{job}")).json()["status"] == "submitted"
        before = await client.get(f"{API}/jobs/{job}?as_of=3")
        assert before.status_code == 404
        assert (await client.get(f"{API}/jobs?as_of=3")).json()["items"] == []
        online = [
            (await client.get(f"{API}/capacity?as_of={position}")).json()["network"]["online"] for position in range(4)
        ]
        assert online == [0, 1, 0, 1]
        assert (await client.get(f"{API}/providers?as_of=2")).json()["items"][0]["online"] is False
        other = Provider("12D3KooWOther")
        other.advertise(node.services.device.offering(), ())
        await node.log.save(other)
        providers = (await client.get(f"{API}/providers")).json()["items"]
        own = (await client.get(f"{API}/providers?own=true")).json()
        assert own == {"items": [row for row in providers if row["own"]], "next_token": ""}
        assert len(own["items"]) == 1 < len(providers)
        assert (await client.get(f"{API}/providers?own=true&as_of=0")).json()["items"] == []


@pytest.mark.parametrize("moment", ["99", "2999-01-01T00:00:00Z", "soon", "-1"])
async def test_a_moment_that_is_none_is_refused(node: Node, moment: str) -> None:
    async with node.client() as client:
        for path in ("jobs", "capacity", "providers"):
            answer = await client.get(f"{API}/{path}", params={"as_of": moment})
            assert answer.status_code == 400
            assert "as_of" in answer.json()["error"]


async def test_what_changed_between_two_moments(node: Node) -> None:
    await toggled(node, 1)
    job = await node.job()
    await node.submit(job)
    async with node.client() as client:
        found = (await client.get(f"{API}/diff?from=3")).json()
        assert (found["from"], found["to"], found["events"]) == (3, node.log.head, node.log.head - 3)
        assert [(row["key"], row["before"]["status"], row["after"]["status"]) for row in found["jobs"]] == [
            (job, "awaiting", "submitted")
        ]
        assert found["capacity"] == []
        for side in ("before", "after"):  # times as everywhere in the API
            assert found["jobs"][0][side]["requested_at"].endswith("+00:00")
            assert found["jobs"][0][side]["ended_at"] is None
            assert all(step["time"].endswith("+00:00") for step in found["jobs"][0][side]["timeline"])
        assert (await client.get(f"{API}/diff?from=1&to=2")).json()["capacity"][0]["after"]["online"] is False


async def test_what_tells_of_a_person_is_sealed_unless_it_is_asked_for(node: Node) -> None:
    await toggled(node, 0)
    for query, shown in (("", False), ("?personal=true", True)):
        (event,) = decoded((await got(node, query)).text)
        assert ("sealed" in event.data) != shown
        assert event.data.get("payment_address") == (ADDRESS if shown else None)
        assert event.data["channel"] == "nunet-test"
