"""The description against the served API: all that is served is described, and real answers and frames fit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from dms.adapters.http import dashboard, debug, examples, pages, sign_in
from dms.adapters.http.openapi import path_of
from tests.fixtures import described
from tests.fixtures.described import message_of
from tests.integration.http.node import ADDRESS, SERVICE_BODY, Node, frames, is_last, running_node

SCHEMAS = Path(__file__).parents[3] / "schemas"
API = "/api/v1"
ONBOARD = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


def fits(name: str, value: Any) -> None:
    """name: of a file below schemas/."""
    Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text())).validate(value)


async def test_all_that_the_server_answers_is_described(node: Node) -> None:
    async with node.client() as client:
        document = (await client.get("/openapi.json")).json()
    served = {path_of(f"/{route.path}") for route in node.app.router.routes}
    shown = {path_of(page.address) for page in (*pages.PAGES, *dashboard.PAGES, *sign_in.PAGES)}
    assert served - shown == set(document["paths"])


async def test_answers_fit_their_schemas(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, ("stdout", "one"))
    async with node.client() as client:
        fits("rest/post.onboarding.onboard.request", ONBOARD)
        onboarded = await client.post(f"{API}/onboarding/onboard", json=ONBOARD)
        fits("rest/post.onboarding.onboard.response", onboarded.json())
        changed = await client.post(f"{API}/onboarding/resource-config", json={"memory": 4000, "cpu": 2000})
        fits("rest/post.onboarding.resource-config.response", changed.json())
        ended = await client.post(f"{API}/jobs/{job}/terminate", json={"reason": "enough"})
        fits("rest/post.jobs.job_id.terminate.response", ended.json())
        for path in (
            "onboarding/metadata", "onboarding/status", "onboarding/provisioned", "onboarding/address/new",
            "device/status", "device/usage", "device/policy", "device/refusals", "onboarding/offboard",
            "telemetry/free", "peers", "peers/self", "peers/dht", "peers/kad-dht", "peers/dht/dump",
            "jobs", "capacity", "projections", "livez", "readyz",
        ):  # fmt: skip
            answer = await client.get(f"{API}/{path}")
            assert answer.status_code == 200, path
            fits(f"rest/get.{path.replace('/', '.')}.response", answer.json())
        fits("rest/get.jobs.job_id.response", (await client.get(f"{API}/jobs/{job}")).json())
        fits("rest/get.jobs.job_id.history.response", (await client.get(f"{API}/jobs/{job}/history")).json())


async def test_errors_fit_the_schema_of_a_problem(node: Node) -> None:
    async with node.client() as client:
        answers = [
            await client.get(f"{API}/jobs/{'0' * 36}"),
            await client.get("/nowhere"),
            await client.put(f"{API}/jobs"),
            await client.post(f"{API}/run/request-service", json={"max_ntx": "x"}),
            await client.post(f"{API}/run/request-service", json=SERVICE_BODY),
            await client.get(f"{API}/run/deploy"),
            await client.get(f"{API}/jobs?peer={'x' * 20_000}"),
        ]
    assert [answer.status_code for answer in answers] == [404, 404, 405, 400, 404, 426, 431]
    for answer in answers:
        fits("rest/problem", answer.json())


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("ending", ["completed", "failed"])
async def test_frames_fit_the_schema_of_their_action(node: Node, v2: bool, ending: str) -> None:
    job = await node.job()
    async with node.connect(f"?job_id={job}", v2=v2) as ws:
        await ws.send("nonsense")
        await node.submit(job)
        await node.respond(job)
        await node.print_lines(job, ("stdout", "one"), ("stderr", "two"))
        await (node.complete(job) if ending == "completed" else node.fail(job, "broken"))
        found = await frames(ws, is_last)
    assert len({frame["action"] for frame in found}) == 6
    channel = "api.v1.run.deploy.dms.actions.v2" if v2 else "api.v1.run.deploy"
    for frame in found:
        fits(f"actions/{frame['action']}", frame)
        assert message_of(channel, frame) == frame["action"]


async def test_what_fits_the_schema_of_an_incoming_action_is_taken(node: Node) -> None:
    job = await node.job()
    pay = {"action": "send-status", "message": {"transaction_status": "success", "tx_hash": "ab", "job_id": job}}
    end = {"action": "terminate-job"}
    async with node.connect() as ws:
        for name, message in (("send-status", pay), ("terminate-job", end)):
            fits(f"actions/{name}", message)
            assert message_of("api.v1.run.deploy", message) == name
            await ws.send(msgspec.json.encode(message).decode())
        found = await frames(ws, is_last)
    assert [frame["action"] for frame in found if frame["action"] == "error"] == []


async def some_history(node: Node) -> str:
    """A device that was onboarded, and a job that ended: its id."""
    async with node.client() as client:
        assert (await client.post(f"{API}/onboarding/onboard", json=ONBOARD)).status_code == 200
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, ("stdout", "one"), ("stderr", "two"))
    await node.complete(job)
    return job


async def test_events_fit_the_message_of_their_type_in_every_form(node: Node) -> None:
    await some_history(node)
    async with node.client() as client:
        lines = (await client.get(f"{API}/events")).text.splitlines()
        served = (await client.get(f"{API}/events", headers={"accept": "text/event-stream"})).text
    async with node.connect("?follow=false", path=f"{API}/events/ws") as ws:
        framed = [frame async for frame in ws]
    fields = [dict(line.split(": ", 1) for line in one.splitlines()) for one in served.split("\n\n")[1:] if one]
    told = [message_of("api.v1.events", one["data"]) for one in fields]
    assert [one["id"] for one in fields] == [str(position) for position in range(1, len(told) + 1)]
    assert [one["event"] for one in fields] == [name.rpartition(".v")[0] for name in told]
    assert [message_of("api.v1.events", line) for line in lines] == told
    assert [message_of("api.v1.events.ws", frame) for frame in framed] == told
    assert {"device.onboarded", "job.submitted", "job.completed"} <= {one["event"] for one in fields}


async def test_the_other_streams_fit_their_messages(node: Node) -> None:
    job = await some_history(node)
    async with node.client() as client:
        exported = (await client.get(f"{API}/events/export")).text.splitlines()
        path = f"{API}/jobs/{job}/logs?token={node.services.log_token(job)}"
        printed = (await client.get(path, headers={"accept": "application/x-ndjson"})).text.splitlines()
        text = (await client.get(path)).text
    kinds = [message_of("api.v1.events.export", line) for line in exported]
    assert [kinds[0], {*kinds[1:-1]}, kinds[-1]] == ["Header", {"SignedRecord"}, "Footer"]
    assert [described.fits("jobs.job_id.logs.OutputLineAnswer", line) for line in printed] == [True, True]
    assert described.fits("jobs.job_id.logs.text", text)


async def test_a_method_that_is_not_there_is_told_which_are(node: Node) -> None:
    job = await node.job()
    async with node.client() as client:
        for path, allowed in (
            (f"{API}/jobs", "GET, HEAD, OPTIONS"),
            (f"{API}/jobs/{job}", "GET, HEAD, OPTIONS"),
            (f"{API}/jobs/stop", "OPTIONS, POST"),
            (f"{API}/device/status", "GET, HEAD, OPTIONS, POST"),
            (f"{API}/projections/jobs/rebuild", "OPTIONS, POST"),
            ("/run/deploy", "GET"),
        ):
            for method in ("PUT", "TRACE"):
                answer = await client.request(method, path)
                assert answer.status_code == 405
                assert set(allowed.split(", ")) <= set(answer.headers["allow"].split(", "))
        assert (await client.options(f"{API}/jobs")).headers["allow"] == "GET, HEAD, OPTIONS"


async def test_what_is_not_done_says_what_replaces_it(node: Node) -> None:
    machine = {"kernel_image_path": "/k", "filesystem_path": "/f"}
    async with node.client() as client:
        for path in ("vm/start-default", "vm/start-custom"):
            answer = await client.post(f"{API}/{path}", json=machine)
            assert answer.status_code == 501
            assert "/run/request-service" in answer.json()["error"]
        for path in ("peers/ws", "peers/shell", "peers/log"):
            answer = await client.get(f"{API}/{path}?nodeID=x")
            assert answer.status_code == 501
            assert "/logs" in answer.json()["error"]


async def test_the_debug_routes_are_there_only_when_asked_for(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node.client() as client:
        for route in debug.ROUTES:
            assert (await client.get(route.address)).status_code == 404
    (tmp_path / "debug").mkdir()
    monkeypatch.setenv("NUNET_DEBUG", "1")
    async with running_node(tmp_path / "debug") as other, other.client() as client:
        assert (await client.get(f"{API}/dht")).json()[0]["peer_id"] == other.services.network.peer_id
        assert (await client.get(f"{API}/kad-dht")).json() == []
        assert (await client.get(f"{API}/dht/update")).status_code == 200
        assert (await client.get(f"{API}/ping")).status_code == 400
        for path in ("ping", "oldping", "cleanup"):
            mistyped = await client.get(f"{API}/{path}?peerID=abc")
            assert (mistyped.status_code, mistyped.json()["errors"][0]["pointer"]) == (400, "?peerID")
        assert (await client.get(f"{API}/ping?peerID={examples.PEER_ID}")).status_code == 503
        assert (await client.get(f"{API}/cleanup?peerID={examples.PEER_ID}")).status_code == 404
        assert f"{API}/oldping" in (await client.get("/openapi.json")).json()["paths"]
