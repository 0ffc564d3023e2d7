"""REST of payments and rewards: the original's shapes and texts, for both roles."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.p2p.identity import Identity
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.payment import Payment, payment_key
from dms.domain.resources import Resources
from tests.fixtures.histories import request as requested
from tests.integration.http.node import ADDRESS, Node, running_node

API = "/api/v1"
GO_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})? \+0000 UTC")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def our_job(node: Node, tx_hash: str, *, over: bool = True) -> str:
    """Asked for here, paid, and completed elsewhere."""
    job_id = await node.job()
    await node.submit(job_id, tx_hash)
    await use(node, tx_hash, job_id)
    if over:
        await node.respond(job_id)
        await node.complete(job_id)
    return job_id


async def their_job(node: Node, tx_hash: str, seconds: float | None, exit_code: int = 3) -> str:
    """Runs here for another peer; seconds: until it ended, None for not yet."""
    deployment = Deployment(new_id())
    deployment.ask("12D3KooWOther", requested(time=10, tx_hash=tx_hash), "0.4", ADDRESS)
    deployment.grant(Resources(cpu_mhz=1), ())
    if seconds is not None:
        deployment.container_created("c1", "docker")
        deployment.container_started(1)
        deployment.trigger(Deployment.ContainerExited(exit_code=exit_code, duration_seconds=seconds))
    await node.log.save(deployment)
    await use(node, tx_hash, deployment.key)
    return deployment.key


async def use(node: Node, tx_hash: str, job_id: str) -> None:
    payment = Payment(payment_key(tx_hash))
    payment.use(job_id)
    await node.log.save(payment)


async def test_nothing_paid_is_an_empty_list(node: Node) -> None:
    await node.job()  # asked for and not paid
    async with node.client() as client:
        answer = await client.get(f"{API}/transactions")
    assert (answer.status_code, answer.json()) == (200, [])


async def test_the_list_has_both_roles_newest_first_and_their_types(node: Node) -> None:
    await our_job(node, "a1", over=False)
    await their_job(node, "a2", None)
    await our_job(node, "a3")
    await their_job(node, "a4", 60.0)
    await their_job(node, "a5", 300.0)
    await their_job(node, "a6", 450.0)
    await their_job(node, "a7", 1.0, exit_code=0)
    async with node.client() as client:
        rows = (await client.get(f"{API}/transactions?size_done=0&clean_tx=")).json()
    assert [(row["tx_hash"], row["transaction_type"]) for row in rows] == [
        ("a7", "withdraw"), ("a6", "distribute-75"), ("a5", "distribute-50"), ("a4", "refund"), ("a3", "withdraw"),
        ("a2", "running"), ("a1", "refund"),
    ]  # fmt: skip
    assert all(GO_TIME.fullmatch(row["date_time"]) for row in rows)
    by_hash = {row["tx_hash"]: row for row in rows}
    assert (by_hash["a6"]["to_provider"], by_hash["a6"]["to_requester"]) == ("0.3", "0.1")
    assert (by_hash["a1"]["to_provider"], by_hash["a1"]["reward_type"]) == ("", "")
    assert {row["role"] for row in rows} == {"service provider", "compute provider"}


async def test_only_so_many_of_those_done_are_listed(node: Node) -> None:
    for number in range(4):
        await their_job(node, f"b{number}", 1.0, exit_code=0)
    async with node.client() as client:
        for number in range(3):
            await client.post(
                f"{API}/transactions/send-status",
                json={"transaction_type": "withdraw", "transaction_status": "success", "tx_hash": f"b{number}"},
            )
        hashes = [row["tx_hash"] for row in (await client.get(f"{API}/transactions?size_done=2")).json()]
        assert hashes == ["b3", "b2", "b1"]
        everything = (await client.get(f"{API}/transactions")).json()
        assert len(everything) == 4


async def test_hiding_is_an_event_and_survives_a_rebuild(node: Node) -> None:
    for tx_hash, seconds in (("c1", 1.0), ("c2", 600.0)):
        await their_job(node, tx_hash, seconds)
    async with node.client() as client:
        rows = (await client.get(f"{API}/transactions?clean_tx=refund")).json()
        assert [row["tx_hash"] for row in rows] == ["c2"]
        head = node.log.head
        hidden = (await client.get(f"{API}/transactions?hidden=true")).json()
        assert len(hidden) > len(rows)
        await client.get(f"{API}/transactions?clean_tx=refund")
        assert node.log.head == head  # hidden already: no news
        assert (await client.post(f"{API}/projections/transactions/rebuild")).status_code == 200
        assert (await client.get(f"{API}/transactions")).json() == rows
        reward = await client.post(f"{API}/transactions/request-reward", json={"tx_hash": "c1"})
        assert reward.json()["reward_type"] == "refund"  # still there
    topics = [event.topic for event in await node.log.read(0, 100)]
    assert topics.count("payment.hidden") == 1


@pytest.mark.parametrize("wrong", ["size_done=x", "size_done=-1", "clean_tx=everything"])
async def test_wrong_parameters_are_a_400_in_the_originals_words(node: Node, wrong: str) -> None:
    name = wrong.partition("=")[0]
    text = {"size_done": "invalid size_done parameter", "clean_tx": "wrong clean_tx parameter"}[name]
    async with node.client() as client:
        answer = await client.get(f"{API}/transactions?{wrong}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(text)


async def test_a_reward_has_the_fields_of_all_generations_signed(node: Node) -> None:
    job_id = await their_job(node, "0xD1", 450.0)
    body = {"Compute_Provider_Address": ADDRESS, "TX_HASH": "d1"}
    async with node.client() as client:
        answer = await client.post(f"{API}/transactions/request-reward", json=body)
        again = await client.post(f"{API}/transactions/request-reward", json=body)
        own = (await client.get(f"{API}/peers/self")).json()["ID"]
    reward = answer.json()
    assert again.json() == reward
    assert (reward["reward_type"], reward["to_provider"], reward["to_requester"]) == ("distribute-75", "0.3", "0.1")
    assert reward["compute_provider_addr"] == ADDRESS
    assert (reward["signature"], reward["oracle_message"]) == (reward["signature_datum"], reward["datum"])
    for part in ("datum", "action"):
        assert len(reward[f"signature_{part}"]) == 128
        signature = bytes.fromhex(reward[f"signature_{part}"])
        assert Identity.generate().verify(own, reward[part].encode(), signature)
    assert '"redeemer":2' in reward["action"]
    topics = [event.topic for event in await node.log.read(0, 100, stream=f"deployment-{job_id}")]
    assert topics.count("deployment.reward_claimed") == 1


@pytest.mark.parametrize("path", ["/transactions/request-reward", "/transactions/send-status", "/run/send-status"])
async def test_unknown_hashes_and_running_jobs(node: Node, path: str) -> None:
    await their_job(node, "e1", None)
    await our_job(node, "e2", over=False)
    status = {"transaction_type": "withdraw", "transaction_status": "success"}
    async with node.client() as client:
        for tx_hash, code, text in (
            ("ffff", 404, "unknown tx hash"),
            ("", 404, "unknown tx hash"),
            ("e1", 409, "the job is still running"),
            ("e2", 409, "the job is still running"),
        ):
            answer = await client.post(API + path, json={"tx_hash": tx_hash, **status})
            assert (answer.status_code, answer.json()["error"]) == (code, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/transactions/request-reward", "Invalid JSON format"),
        ("/transactions/send-status", "cannot read payload body"),
        ("/transactions/update-status", "failed to fetch UTXOs from Blockchain"),
    ],
)
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"tx_hash": 5, "address": 5}'])
async def test_broken_bodies_are_a_400_in_the_originals_words(node: Node, path: str, text: str, body: bytes) -> None:
    async with node.client(headers={"content-type": "application/json"}) as client:
        answer = await client.post(API + path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(text)


async def test_a_reported_success_settles_and_nothing_else_does(node: Node) -> None:
    await our_job(node, "f1")

    async def report(status: str, kind: str) -> Any:
        body = {"transaction_type": kind, "transaction_status": status, "tx_hash": "f1"}
        return await client.post(f"{API}/transactions/send-status", json=body)

    async with node.client() as client:
        assert (await report("pending", "withdraw")).json() == {"message": "transaction status pending acknowledged"}
        assert (await client.get(f"{API}/transactions")).json()[0]["transaction_type"] == "withdraw"
        wrong = await report("success", "refund")
        assert wrong.status_code == 409
        assert "is withdraw, not refund" in wrong.json()["error"]
        for _ in range(2):
            done = await report("success", "withdraw")
            assert done.json() == {"message": "transaction status success acknowledged"}
        assert (await client.get(f"{API}/transactions")).json()[0]["transaction_type"] == "done"
    topics = [event.topic for event in await node.log.read(0, 100)]
    assert topics.count("job.reward_settled") == 1


async def test_without_a_chain_nothing_can_be_looked_up(node: Node) -> None:
    async with node.client() as client:
        empty = await client.post(f"{API}/transactions/update-status", json={"address": ADDRESS})
        assert (empty.status_code, empty.json()["updated"]) == (200, 0)
        wrong = await client.post(f"{API}/transactions/update-status", json={"address": "nowhere"})
        assert wrong.status_code == 400
