"""The oldest generation of clients, unchanged, on two DMSes and a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio
import websockets

from tests.fixtures.dms import ADDRESS, Dms, Follower, pair, payment, request_body
from tests.fixtures.images import SHELL_IMAGE
from tests.fixtures.oldest_client import OldestClient

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dmses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Dms, Dms]]:
    async with pair(tmp_path_factory.mktemp("pair"), job__network="auto") as both:
        await both[0].sees_internet()  # which its images expect
        yield both


async def all_of(client: OldestClient, tx_hash: str) -> list[tuple[str, Any]]:
    async with asyncio.timeout(120), aclosing(client.run(tx_hash)) as frames:
        return [frame async for frame in frames]


async def test_it_reads_every_provider(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    peers = await OldestClient(sp.rest_port).peers()
    found = {peer.peer_id: peer for peer in peers}
    provider = found[(await cp.get("/peers/self"))["ID"]]
    assert provider.available_resources.tot_cpu_hz > 0
    assert provider.available_resources.ram > 0
    assert provider.tokenomics_blockchain == "Cardano"
    assert provider.services == []


async def test_its_job_completes_and_its_goodbye_ends_nobody_elses(dmses: tuple[Dms, Dms]) -> None:
    sp, _ = dmses
    client = OldestClient(sp.rest_port)
    other = await sp.post("/run/request-service", request_body("echo begun; sleep 30; echo undisturbed", CPU=200))
    follower = Follower(sp, other["job_id"])
    following = asyncio.create_task(follower.until_over())
    await _fund(sp, other["job_id"])

    reply = await client.request(SHELL_IMAGE, "echo hello; echo unseen >&2")
    assert reply.compute_provider_addr == ADDRESS  # the provider's wallet: the client builds its payment from it
    assert reply.oracle_message
    seen = await all_of(client, "tx-oldest")
    assert [action for action, _ in seen if action != "log-stream-response"] == [
        "connected", "job-submitted", "deployment-response", "job-completed",
    ]  # fmt: skip
    assert ("log-stream-response", "hello\n") in seen
    response = next(text for action, text in seen if action == "deployment-response")
    assert response["success"] is True
    assert response["content"].startswith("http://")

    assert not follower.over  # the goodbye was said while the other job ran
    await following
    assert follower.names[-1] == "job-completed"
    assert follower.text("stdout") == "begun\nundisturbed\n"


async def test_a_failed_job_lets_it_go(dmses: tuple[Dms, Dms]) -> None:
    """It reads on after job-failed until the socket is closed."""
    sp, _ = dmses
    client = OldestClient(sp.rest_port)
    await client.request(SHELL_IMAGE, "exit 3")
    seen = await all_of(client, "tx-fails")
    assert [action for action, _ in seen].count("job-failed") == 1
    assert seen[-1][0] == "job-failed"


async def _fund(sp: Dms, job_id: str) -> None:
    """Returns once the container prints."""
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment("tx-other", job_id))
        async with asyncio.timeout(120):
            while "begun" not in str(await socket.recv()):
                continue
