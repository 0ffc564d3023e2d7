"""REST over real sockets: shapes, units and texts that clients of the original rely on, and our own resources."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dms.adapters.http import admin
from dms.adapters.http import server as server_module
from dms.adapters.http.server import ROUTES, HttpServer, build_app
from dms.adapters.views import past
from dms.application.loops import Loops
from dms.config import Rest
from dms.domain.directory import Offering, Provider
from dms.domain.resources import Resources
from dms.errors import ConfigError
from tests.integration.http.node import ADDRESS, SERVICE_BODY, Node, running_node

API = "/api/v1"
ONBOARD: dict[str, Any] = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def test_onboarding_from_beginning_to_end(node: Node) -> None:
    async with node.client() as client:
        assert (await client.get(f"{API}/onboarding/status")).json()["onboarded"] is False
        hardware = (await client.get(f"{API}/onboarding/provisioned")).json()
        assert {"cpu": 8000.0, "memory": 16000, "total_cores": 4}.items() <= hardware.items()
        assert (await client.get(f"{API}/onboarding/metadata")).status_code == 404
        onboarded = await client.post(f"{API}/onboarding/onboard", json={"CPU": 4000, **ONBOARD_WITHOUT_CPU})
        assert onboarded.status_code == 200
        metadata = onboarded.json()
        assert metadata["reserved"] == {"cpu": 4000, "memory": 8000}
        assert metadata["available"] == {"cpu": 4000, "memory": 8000}
        assert metadata["resource"] == {"memory_max": 16000, "total_core": 4, "cpu_max": 8000}
        assert (metadata["public_key"], metadata["network"]) == (ADDRESS, "nunet-test")
        assert abs(metadata["update_timestamp"] - time.time()) < 60
        assert (await client.get(f"{API}/onboarding/metadata")).json() == metadata
        changed = await client.post(
            f"{API}/onboarding/resource-config", json={"memory": 4000, "cpu": 2000, "ntx_price": 0.5}
        )
        assert changed.json()["reserved"] == {"cpu": 2000, "memory": 4000}
        free = (await client.get(f"{API}/telemetry/free")).json()
        assert free == {
            "id": 1, "tot_cpu_hz": 2000, "price_cpu": 0, "ram": 4000, "price_ram": 0, "vcpu": 1, "disk": 0,
            "price_disk": 0, "ntx_price": 0.5,
        }  # fmt: skip
        gone = await client.delete(f"{API}/onboarding/offboard?force=true")
        assert gone.json() == {"message": "Successfully Offboarded", "forced": True}
        again = await client.post(f"{API}/onboarding/offboard")
        assert (again.status_code, again.json()["error"]) == (409, "machine is not onboarded")


ONBOARD_WITHOUT_CPU = {key: value for key, value in ONBOARD.items() if key != "cpu"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cpu": 1}, "CPU should be between 10% and 90% of the available CPU (800 and 7200)"),
        ({"payment_addr": "addr1bad"}, "invalid cardano wallet address"),
        ({"channel": "moon"}, "channel name not supported!"),
        ({"cardano": True}, "cardano node requires 10000MB of RAM and 6000MHz CPU"),
        ({"ntx_price": -1}, "'ntx-price' must be a positive value"),
        ({"memory": "much"}, "invalid request data"),
    ],
)
async def test_a_bad_offer_is_a_400_in_the_originals_words(node: Node, change: dict[str, Any], text: str) -> None:
    async with node.client() as client:
        answer = await client.post(f"{API}/onboarding/onboard", json=ONBOARD | change)
    body = answer.json()
    assert answer.status_code == body["status"] == 400
    assert body["error"].startswith(text)
    assert body["title"] == "Bad Request"
    assert body["errors"][0]["pointer"].startswith("/")
    assert node.log.head == 0


async def test_device_status(node: Node) -> None:
    async with node.client() as client:
        assert (await client.post(f"{API}/device/status", json={"is_available": True})).status_code == 409
        await client.post(f"{API}/onboarding/onboard", json=ONBOARD | {"is_available": False})
        assert (await client.get(f"{API}/device/status")).json() == {
            "online": False,
            "accepting": False,
            "reasons": [{"kind": "provider", "reason": "the provider is offline"}],
        }
        changed = await client.post(f"{API}/device/status", json={"is_available": True})
        assert changed.json() == {"message": "Device status successfully changed to online"}
        unchanged = await client.post(f"{API}/device/status", json={"is_available": True})
        assert (unchanged.status_code, unchanged.json()["message"]) == (200, "no change: the device is online already")
        assert (await client.post(f"{API}/device/status")).status_code == 400


async def test_peers(node: Node) -> None:
    async with node.client() as client:
        assert (await client.get(f"{API}/peers")).json() == []
        assert (await client.get(f"{API}/peers/dht")).json() == []
        own = (await client.get(f"{API}/peers/self")).json()
        assert own["Addrs"][0].endswith(own["ID"])
        await client.post(f"{API}/onboarding/onboard", json=ONBOARD)
        (peer,) = (await client.get(f"{API}/peers/dht/dump")).json()
    assert peer["peer_id"] == own["ID"]
    assert peer["services"] == []
    assert peer["gpu_info"] is None
    assert peer["tokenomics_addrs"] == ADDRESS
    assert peer["tokenomics_blockchain"] == "Cardano"
    resources = peer["available_resources"]
    assert all(isinstance(resources[key], int) for key in resources if key != "ntx_price")
    assert (resources["tot_cpu_hz"], resources["ram"], resources["vcpu"]) == (4000, 8000, 2)


async def test_a_node_alone_is_told_that_it_gives_no_jobs_to_itself(node: Node) -> None:
    async with node.client() as client:

        async def refused(**params: str) -> str:
            body = SERVICE_BODY | {"params": SERVICE_BODY["params"] | params}
            answer = await client.post(f"{API}/run/request-service", json=body)
            assert answer.status_code == 404
            return str(answer.json()["error"])

        own = node.services.network.peer_id
        assert "targeted peer" in (targeted := await refused(node_id=own))
        assert "is this node itself, which gives no jobs to itself" in targeted
        assert (await refused()).endswith("no compute provider is known on this channel")
        await client.post(f"{API}/onboarding/onboard", json=ONBOARD)
        alone = await refused()
        assert "the only compute provider known on this channel is this node itself" in alone
        assert "onboard another machine" in alone
        assert await refused(node_id=own) == targeted


async def test_request_service_tells_what_is_wrong(node: Node) -> None:
    async with node.client() as client:
        nobody = await client.post(f"{API}/run/request-service", json=SERVICE_BODY)
        assert nobody.status_code == 404
        assert nobody.json()["error"].startswith("no peers found with matched specs")
        assert nobody.json()["refused"] == {}
        dear = await client.post(f"{API}/run/request-service", json=SERVICE_BODY | {"max_ntx": 0})
        assert dear.status_code == 400
        assert dear.json()["error"].startswith("nunet estimation price is greater than client price")
        odd = await client.post(f"{API}/run/request-service", json=SERVICE_BODY | {"service_type": "x"})
        assert odd.json()["errors"][0]["pointer"] == "/service_type"
        no_peer_id = SERVICE_BODY | {"params": {**SERVICE_BODY["params"], "node_id": "nobody"}}
        assert (await client.post(f"{API}/run/request-service", json=no_peer_id)).status_code == 404


async def test_jobs_are_listed_in_pages_and_filtered(node: Node) -> None:
    jobs = [await node.job() for _ in range(5)]
    await node.fail(jobs[2], "broken")
    async with node.client() as client:
        first = (await client.get(f"{API}/jobs?limit=2")).json()
        assert [row["job_id"] for row in first["items"]] == [jobs[4], jobs[3]]
        second = (await client.get(f"{API}/jobs?limit=3&after={first['next_token']}")).json()
        assert [row["job_id"] for row in second["items"]] == [jobs[2], jobs[1], jobs[0]]
        assert second["next_token"] == ""
        failed = (await client.get(f"{API}/jobs?status=failed,expired&role=sp")).json()["items"]
        assert [(row["job_id"], row["reason"]) for row in failed] == [(jobs[2], "broken")]
        assert (await client.get(f"{API}/jobs?role=cp")).json()["items"] == []
        for wrong in ("limit=0", "limit=1001", "limit=x", "role=boss", "status=runing", "status=failed,", "id=X"):
            assert (await client.get(f"{API}/jobs?{wrong}")).status_code == 400
        assert (await client.get(f"{API}/jobs/{'0' * 36}")).status_code == 404


async def test_jobs_are_found_by_the_beginning_of_their_id(node: Node) -> None:
    jobs = [await node.job() for _ in range(3)]
    same = jobs[0][:4]  # of about the same weeks
    async with node.client() as client:

        async def found(query: str) -> list[str]:
            return [row["job_id"] for row in (await client.get(f"{API}/jobs?{query}")).json()["items"]]

        assert await found(f"id={jobs[1]}") == [jobs[1]]
        assert await found(f"id={same}") == jobs[::-1]
        assert await found(f"id={same}&limit=2") == jobs[:0:-1]
        assert await found(f"id={same}&after={jobs[1]}") == [jobs[0]]
        assert await found("id=ffff") == []


async def test_a_status_that_nobody_knows_is_refused_with_those_that_there_are(node: Node) -> None:
    async with node.client() as client:
        answer = await client.get(f"{API}/jobs?status=finished")
    assert answer.status_code == 400
    assert "awaiting" in answer.json()["error"]
    assert "completed" in answer.json()["error"]


async def test_a_dry_run_says_who_would_run_it_and_why_and_records_nothing(node: Node) -> None:
    room = Resources(cpu_mhz=4000, memory_mb=8000)
    for peer, online in (("12D3KooWAway", False), ("12D3KooWHere", True)):
        offering = Offering(channel="nunet-test", online=online, onboarded=True, offered=room)
        node.services.directory.offers.put(peer, offering)
    async with node.client() as client:
        nobody = await client.post(f"{API}/run/request-service/dry-run", json=SERVICE_BODY)
        assert nobody.status_code == 404  # it is in the table, and does not answer
        assert "12D3KooWHere" in nobody.json()["error"]
        dear = await client.post(f"{API}/run/request-service/dry-run", json=SERVICE_BODY | {"max_ntx": 0})
        assert dear.status_code == 400
    assert node.log.head == 0


async def test_the_history_of_a_job_is_the_log_itself(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    async with node.client() as client:
        page = (await client.get(f"{API}/jobs/{job}/history?limit=2")).json()
        rest = (await client.get(f"{API}/jobs/{job}/history?after={page['next_token']}")).json()
    events = page["items"] + rest["items"]
    topics = [event["topic"] for event in events]
    assert topics == ["job.service_requested", "job.fund_status_reported", "job.funding_accepted", "job.submitted"]
    assert [event["aggregate_version"] for event in events] == [1, 2, 3, 4]
    assert events[0]["aggregate_id"] == f"job-{job}"
    assert events[0]["data"]["price"] == "0.1"
    assert len(bytes.fromhex(events[0]["hash"])) == 32
    assert events[0]["time"].endswith("+00:00")


async def test_the_cause_of_a_command_is_the_request(node: Node) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with node.client(headers={"traceparent": trace, "x-request-id": "mine-1"}) as client:
        answer = await client.post(f"{API}/onboarding/onboard", json=ONBOARD)
    assert answer.headers["x-request-id"] == "mine-1"
    (event,) = await node.log.read(0, 10)
    assert event.traceparent == trace
    assert event.causation_id


async def test_the_output_needs_the_jobs_token(node: Node) -> None:
    job = await node.job()
    await node.print_lines(job, ("stdout", "one"), ("stderr", "zwei ä"), ("stdout", "three"))
    async with node.client() as client:
        url = (await client.get(f"{API}/jobs/{job}")).json()["log_url"]
        assert url.startswith(node.url)
        for wrong in ("", "?token=", "?token=ä", f"?token={node.services.log_token(job)}x"):
            assert (await client.get(f"{API}/jobs/{job}/logs{wrong}")).status_code == 403
        answer = await client.get(url)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text == "one\nzwei ä\nthree\n"
        assert (await client.get(url + "&stream=stderr")).text == "zwei ä\n"
        assert (await client.get(url + "&after=2")).text == "three\n"
        assert (await client.get(url + "&stream=x")).status_code == 400
        lines = (await client.get(url + "&after=1", headers={"accept": "application/x-ndjson"})).text.splitlines()
    assert [(line["seq"], line["stream"], line["text"]) for line in map(httpx_json, lines)] == [
        (2, "stderr", "zwei ä"),
        (3, "stdout", "three"),
    ]


async def test_following_the_output_ends_with_the_job(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    async with node.client() as client, asyncio.timeout(120):
        url = f"{API}/jobs/{job}/logs?token={node.services.log_token(job)}&follow=true"
        async with client.stream("GET", url) as answer:
            texts = answer.aiter_lines()
            for text in ("one", "two"):
                await node.print_lines(job, ("stdout", text))
                assert await anext(texts) == text
            await node.print_lines(job, ("stdout", "last"))
            await node.complete(job)
            assert [text async for text in texts] == ["last"]


async def test_terminating_a_job(node: Node) -> None:
    job = await node.job()
    async with node.client() as client:
        done = await client.post(f"{API}/jobs/{job}/terminate", json={"reason": "wrong data"})
        assert done.status_code == 200
        shown = (await client.get(f"{API}/jobs/{job}")).json()
        assert (shown["status"], shown["reason"]) == ("failed", "wrong data")
        assert (await client.post(f"{API}/jobs/{job}/terminate")).status_code == 409
        missing = await client.post(f"{API}/jobs/01900000-0000-7000-8000-000000000000/terminate")
        assert missing.status_code == 404


async def test_capacity_and_views(node: Node) -> None:
    async with node.client() as client:
        assert (await client.get(f"{API}/capacity")).json()["network"]["providers"] == 0
        await client.post(f"{API}/onboarding/onboard", json=ONBOARD)
        capacity = (await client.get(f"{API}/capacity")).json()
        assert capacity["network"]["free"] == {"cpu_mhz": 4000, "memory_mb": 8000, "vram_mb": 0}
        assert [row["own"] for row in capacity["providers"]] == [True]
        views = (await client.get(f"{API}/projections")).json()["items"]
        behind = {view["name"]: view["behind"] for view in views}
        names = (
            "capacity",
            "checkpoints",
            "device",
            "erasures",
            "jobs",
            "results",
            "tokens",
            "transfers",
            "transactions",
        )
        assert behind == dict.fromkeys(names, 0)
        assert (await client.post(f"{API}/projections/jobs/rebuild")).json() == {"name": "jobs", "position": 1}
        assert (await client.post(f"{API}/projections/none/rebuild")).status_code == 404


async def test_capacity_has_some_providers_and_the_sums_of_all(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "ROWS_A_READ", 3)
    amount = Resources(cpu_mhz=1000, memory_mb=512)
    for number in range(5):
        provider = Provider(f"12D3KooW{number}")
        greedy = Resources(cpu_mhz=2**53) if number == 4 else amount  # no sum of such is a number any more
        offering = Offering(channel="nunet-test", online=number != 0, onboarded=True, total=greedy, offered=amount)
        provider.advertise(offering, ())
        await node.log.save(provider)
    async with node.client() as client:
        for moment in ("", f"?as_of={node.log.head}"):
            found = (await client.get(f"{API}/capacity{moment}")).json()
            assert [row["provider"] for row in found["providers"]] == [f"12D3KooW{number}" for number in range(3)]
            assert (found["network"]["providers"], found["network"]["online"]) == (5, 4)
            assert found["network"]["total"] == {"cpu_mhz": 3000 + 2**40, "memory_mb": 3 * 512, "vram_mb": 0}
        await client.post(f"{API}/onboarding/onboard", json=ONBOARD)
        found = (await client.get(f"{API}/capacity")).json()
        assert found["providers"][-1]["own"]
        assert found["network"]["onboarded"]["memory_mb"] == 4 * 512 + ONBOARD["memory"]


async def test_a_moment_of_the_past_may_be_asked_for_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    await node.job()
    monkeypatch.setattr(past, "MOST_WAITING", 0)
    async with node.client() as client:
        answer = await client.get(f"{API}/capacity?as_of=1")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "try again" in answer.json()["error"]


async def test_health_before_and_after_the_start(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node, node.client() as client:
        node.readiness.enter("reading the log")
        for prefix in ("", API):
            assert (await client.get(f"{prefix}/livez")).status_code == 200
            waiting = await client.get(f"{prefix}/readyz")
            assert (waiting.status_code, waiting.json()["error"]) == (503, "not ready: reading the log")
        assert (await client.get(f"{API}/jobs")).status_code == 503
        node.readiness.serve()
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get(f"{API}/jobs")).status_code == 200


async def test_errors_have_one_shape(node: Node) -> None:
    async with node.client() as client:
        missing = await client.get("/nothing/here")
        assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
        wrong = await client.put(f"{API}/jobs", json={})
        assert wrong.status_code == 405
        assert "GET" in wrong.headers["allow"]
        large = await client.post(
            f"{API}/run/request-service", content=b" " * 300_000, headers={"content-type": "application/json"}
        )
        assert large.status_code == 413
        assert set(large.json()) >= {"error", "title", "status", "detail"}


async def test_an_unexpected_error_tells_only_its_id(node: Node, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(node.services.network, "peers", broken)
    async with node.client() as client:
        answer = await client.get(f"{API}/peers", headers={"x-request-id": "find-me"})
    assert answer.status_code == 500
    assert "find-me" in answer.json()["error"]
    assert "secret" not in answer.text
    assert any(getattr(record, "request_id", "") == "find-me" for record in caplog.records)


async def test_every_get_answers_head_as_well(node: Node) -> None:
    async with node.client() as client:
        for route in ROUTES:
            if route.method == "GET" and "<" not in route.path:
                got, head = await client.get(route.address), await client.head(route.address)
                assert (head.status_code, head.content) == (got.status_code, b"")


async def test_a_taken_port_names_the_address(node: Node) -> None:
    other = HttpServer(build_app(node.services, node.views, Rest()), Rest(port=node.port), Loops())
    with pytest.raises(ConfigError, match=f"127.0.0.1:{node.port}"):
        await other.start()


@pytest.fixture
def two_folders(tmp_path: Path) -> tuple[Path, Path]:
    found = (tmp_path / "a", tmp_path / "b")
    for folder in found:
        folder.mkdir()
    return found


async def test_several_servers_live_in_one_process(two_folders: tuple[Path, Path]) -> None:
    async with running_node(two_folders[0]) as a, running_node(two_folders[1]) as b:
        for node in (a, b):
            async with node.client() as client:
                assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /livez HT",
        (
            b"POST /api/v1/device/status HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 50\r\n\r\n{"
        ),
    ],
)
async def test_a_request_that_drips_in_is_cut(tmp_path: Path, begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ARRIVE_SECONDS", 0.4)
    async with running_node(tmp_path) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(begun)

        async def drip() -> None:
            with contextlib.suppress(OSError):
                while True:
                    writer.write(b" ")
                    await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # what dripped in after the end makes the kernel reset
            answer = await asyncio.wait_for(reader.read(), 120)
        dripping.cancel()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408") or not answer


def httpx_json(text: str) -> Any:
    return httpx.Response(200, text=text).json()


def test_the_server_needs_a_real_address() -> None:
    with socket.socket(), pytest.raises(ConfigError, match=r"192\.0\.2\.1|can't listen"):
        server_module._bound("192.0.2.1", 0)


async def test_numbers_and_choices_in_the_query_are_what_they_are_said_to_be(node: Node) -> None:
    async with node.client() as client:
        for path in (
            "jobs?limit=",
            "jobs?limit=0",
            "peers/files?limit=0",
            "peers/files?direction=up",
            "jobs?role=boss",
        ):
            answer = await client.get(f"{API}/{path}")
            assert answer.status_code == 400, path
            assert answer.json()["errors"][0]["pointer"].startswith("?")
        assert (await client.get(f"{API}/peers/files?direction=in&limit=1")).json()["items"] == []
