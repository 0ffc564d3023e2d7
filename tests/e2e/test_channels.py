"""Channels are networks of their own, and a provider whose engine is away takes nothing: real daemons, real hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.fixtures.dms import Dms, Follower, pair, payment, request_body

BARE = {"job__executor": "process", "job__allow_process_for_peers": "true"}


async def providers(dms: Dms) -> list[str]:
    found = await dms.get("/peers/dht")
    assert [p["provider"] for p in (await dms.get("/capacity"))["providers"] if not p["own"]] == found
    return [str(peer_id) for peer_id in found]


async def until_providers(dms: Dms, count: int, seconds: float = 120) -> None:
    """Waits until that many are known, in the table of advertisements and in the view."""
    async with asyncio.timeout(seconds):
        while True:
            known = len(await dms.get("/peers/dht"))
            viewed = len([p for p in (await dms.get("/capacity"))["providers"] if not p["own"]])
            if known == viewed == count:
                return
            await asyncio.sleep(0.05)


async def pay(sp: Dms, job_id: str, tx_hash: str) -> Follower:
    follower = Follower(sp, job_id)
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/run/deploy") as socket:
        await socket.send(payment(tx_hash, job_id))
        await follower.until_over()
    return follower


async def test_a_provider_that_changes_its_channel_is_gone_for_those_it_leaves(tmp_path: Path) -> None:
    async with pair(tmp_path, **BARE) as (sp, cp):
        before = await sp.post("/run/request-service", request_body("echo one"))
        provider = before["compute_provider_id"]
        assert await providers(sp) == [provider]

        await cp.onboard(channel="nunet-edge")
        await until_providers(sp, 0)
        refused = await sp.post("/run/request-service", request_body("echo two"), expect=404)
        assert refused["refused"] == {provider: "is on channel nunet-edge, not nunet-test"}
        late = await pay(sp, before["job_id"], "tx-late")
        assert late.names[-1] == "job-failed"
        assert "the provider is on channel nunet-edge, not nunet-test" in str(late.last_message)
        assert cp.topics(before["job_id"]) == ["deployment.requested", "deployment.rejected"]

        await sp.onboard(channel="nunet-edge", is_available=False)
        await until_providers(sp, 1)
        joined = await sp.post("/run/request-service", request_body("echo three"))
        assert (await pay(sp, joined["job_id"], "tx-joined")).names[-1] == "job-completed"


async def test_nodes_of_one_channel_meet_through_a_node_of_another_and_never_match_it(tmp_path: Path) -> None:
    async with pair(tmp_path, **BARE) as (_, meeting_point), more(tmp_path) as start:
        settings = {key.replace("__", "."): value for key, value in BARE.items()}
        edge_provider = await start("edge-cp", bootstrap=[await meeting_point.address()], settings=settings)
        await edge_provider.onboard(channel="nunet-edge")
        edge = await start("edge-sp", bootstrap=[await edge_provider.address()], settings=settings)
        await edge.onboard(channel="nunet-edge", is_available=False)
        own = (await edge_provider.get("/peers/self"))["ID"]
        async with asyncio.timeout(120):
            while await edge.get("/peers/dht") != [own]:
                await asyncio.sleep(0.05)
        target = (await meeting_point.get("/peers/self"))["ID"]
        body = request_body("echo crossed")
        body["params"]["node_id"] = target
        refused = await edge.post("/run/request-service", body, expect=404)
        assert "no peers found with matched specs" in refused["error"]
        matched = await edge.post("/run/request-service", request_body("echo edge"))
        assert matched["compute_provider_id"] == own
        assert own not in await meeting_point.get("/peers/dht")


@asynccontextmanager
async def more(folder: Path) -> AsyncIterator[Any]:
    """start(name, ...): a further node; all are ended with the block."""
    nodes: list[Dms] = []

    async def start(name: str, **how: Any) -> Dms:
        dms = Dms(folder / name, **how)
        nodes.append(dms)
        dms.start()
        await dms.ready()
        return dms

    try:
        yield start
    finally:
        for dms in nodes:
            dms.end()


async def degraded(dms: Dms) -> list[str]:
    async with httpx.AsyncClient(timeout=120) as client:
        return list((await client.get(f"{dms.url}/readyz")).json()["degraded"])


@pytest.mark.docker
@pytest.mark.usefixtures("demo_images")
async def test_a_provider_whose_engine_is_away_is_asked_again_for_a_while_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = tmp_path / "docker.sock"
    door.symlink_to("/var/run/docker.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{door}")
    async with pair(tmp_path, job__answer_timeout="10") as (sp, cp):
        quoted = await sp.post("/run/request-service", request_body("echo never"))
        door.unlink()
        refused = await pay(sp, quoted["job_id"], "tx-dead")
        assert refused.names[-1] == "job-failed"
        assert "within 10 s: the provider's container engine is away just now" in str(refused.last_message)
        assert cp.topics(quoted["job_id"]) == []

        async with asyncio.timeout(120):
            while (await answer(sp)).get("refused") != {quoted["compute_provider_id"]: "is offline"}:
                await asyncio.sleep(0.1)
        status = await cp.get("/device/status")
        assert status["online"] is True  # what the owner set stays
        assert status["hindrance"].startswith("the provider's container engine does not answer: ")
        assert status["hindrance"].endswith("(No such file or directory)")
        assert status["hindrance"] in await degraded(cp)

        door.symlink_to("/var/run/docker.sock")
        async with asyncio.timeout(120):
            while "job_id" not in (offer := await answer(sp)):
                await asyncio.sleep(0.2)
        assert "hindrance" not in await cp.get("/device/status")
        assert await degraded(cp) == []
        assert (await pay(sp, offer["job_id"], "tx-alive")).names[-1] == "job-completed"


async def answer(sp: Dms) -> dict[str, Any]:
    """Of a service request, whatever it is."""
    async with httpx.AsyncClient(timeout=120) as client:
        got = await client.post(f"{sp.url}/api/v1/run/request-service", json=request_body("echo alive"))
        found: dict[str, Any] = got.json()
        return found
