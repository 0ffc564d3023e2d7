"""What the original's security suite expected of payments, keys and ids, against a real provider that looks payments
up on a real chain. A stranger speaks the deployment protocol by hand; nothing that it says is believed.

"Declared max_ntx above the amount paid" is taken as: a price that is declared and not paid. max_ntx itself is only
what a user is ready to pay at most, and known clients name far more than the price.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_bytes
from typing import Any, NamedTuple

import msgspec
import pytest

from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.network.messages import (
    DEPLOYMENT_REQUEST,
    FEED,
    DeploymentAnswer,
    DeploymentRequest,
    FeedItem,
    FeedRequest,
)
from dms.database import connect
from dms.domain.deployment import Deployment
from dms.domain.event import decode, new_id
from dms.domain.pricing import estimate, price_text
from dms.domain.request import ServiceRequest
from tests.fixtures.dms import Dms
from tests.fixtures.ethereum import CHAIN_ID, Chain
from tests.fixtures.histories import request as requested
from tests.fixtures.keys import keyring
from tests.fixtures.local_peers import LOCAL
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.slow]

GOOD = requested("true", cpu=500, ram=64, time=1, blockchain="Ethereum")
PRICE = price_text(estimate(GOOD.constraints))
SOMEONE = Identity.generate()


class World(NamedTuple):
    """A compute provider, and a stranger that can speak to it."""

    chain: Chain
    provider: Dms
    provider_id: str
    stranger: Libp2pNetwork

    async def ask(self, request: ServiceRequest, price: str = PRICE) -> str:
        """What becomes of a deployment request: "accepted", or why it is not."""
        job_id, secret = new_id(), token_bytes(32)
        keys = keyring({job_id: secret})
        message = DeploymentRequest(job_id=job_id, request=request, price=price, seal_key=secret.hex())
        body = await self.stranger.request(self.provider_id, DEPLOYMENT_REQUEST, msgspec.json.encode(message), 120)
        answer = msgspec.json.decode(body, type=DeploymentAnswer)
        if answer.accepted or not answer.pending:
            return "accepted" if answer.accepted else answer.reason
        follow = msgspec.json.encode(FeedRequest(job_id=job_id))
        async with (
            asyncio.timeout(120),
            contextlib.aclosing(self.stranger.stream(self.provider_id, FEED, follow)) as frames,
        ):
            async for frame in frames:
                for record in msgspec.json.decode(frame, type=FeedItem).records:
                    event = decode(record.topic, record.schema_version, record.data.encode(), keys)
                    if isinstance(event, Deployment.Accepted):
                        return "accepted"
                    if isinstance(event, Deployment.Rejected):
                        return event.reason
        raise AssertionError("the feed ended without a decision")

    def events_of(self, topic: str, after: int = 0) -> int:
        """How many events of that type its log has."""
        with contextlib.closing(connect(self.provider.folder / "events.db", read_only=True)) as db:
            query = "SELECT count(*) FROM event e JOIN topic t ON t.id = e.topic WHERE t.name = ? AND e.position > ?"
            return int(db.execute(query, (topic, after)).fetchone()[0])

    def pay(self, ntx: str = PRICE) -> str:
        return self.chain.pay(self.chain.accounts[1], ntx)


@pytest.fixture
def funding_seconds() -> int:
    """How long a payment may take to be confirmed."""
    return 120


@pytest.fixture
async def world(tmp_path: Path, chain: Chain, funding_seconds: int) -> AsyncIterator[World]:
    provider = Dms(
        tmp_path / "cp",
        settings={
            "job.executor": "process",
            "job.allow_process_for_peers": "true",
            "funding.check": "ledger",
            "funding.rpc_url": chain.url,
            "funding.chain_id": str(CHAIN_ID),
            "funding.confirmations": "1",
            "funding.timeout_seconds": str(funding_seconds),
        },
    )
    stranger = Libp2pNetwork(Identity.generate(), LOCAL)
    provider.start()
    try:
        await provider.ready()
        await provider.onboard(payment_addr=chain.accounts[1])
        await stranger.start()
        address = await provider.address()
        provider_id = address.rpartition("/")[2]
        stranger.add_addresses(provider_id, [address])
        yield World(chain, provider, provider_id, stranger)
    finally:
        await stranger.close()
        provider.end()


def changed(**params: Any) -> ServiceRequest:
    return msgspec.structs.replace(GOOD, params=msgspec.structs.replace(GOOD.params, **params))


def paid_by(tx_hash: str, request: ServiceRequest = GOOD) -> ServiceRequest:
    return msgspec.structs.replace(request, tx_hash=tx_hash)


async def test_a_valid_job_is_taken_and_its_transaction_pays_for_no_second_one(world: World) -> None:
    tx_hash = world.pay()
    assert await world.ask(paid_by(tx_hash)) == "accepted"
    for spelled in (tx_hash, tx_hash.removeprefix("0x"), tx_hash.upper().replace("0X", "0x")):
        assert "was used already" in await world.ask(paid_by(spelled))


async def test_one_transaction_for_many_jobs_at_once_pays_for_one(world: World) -> None:
    """However it is spelled."""
    tx_hash = world.pay()
    spelled = [tx_hash, tx_hash.removeprefix("0x"), tx_hash.upper().replace("0X", "0x")]
    answers = await asyncio.gather(*(world.ask(paid_by(spelled[number % 3])) for number in range(100)))
    assert answers.count("accepted") == 1
    refusals = ("was used already", "checks too many payments already")
    assert sum(any(refusal in answer for refusal in refusals) for answer in answers) == 99
    assert world.events_of("deployment.accepted") == 1
    assert "was used already" in await world.ask(paid_by(spelled[1]))


async def test_a_payment_that_a_kill_came_upon_pays_for_one_job(world: World) -> None:
    tx_hash = world.pay()
    asking = [asyncio.create_task(world.ask(paid_by(tx_hash))) for _ in range(20)]
    await wait_for(lambda: world.events_of("deployment.requested") > 0)
    world.provider.kill9()
    await asyncio.gather(*asking, return_exceptions=True)
    world.provider.start()
    await world.provider.ready()
    answers = [await world.ask(paid_by(tx_hash)) for _ in range(5)]
    assert answers.count("accepted") <= 1
    await wait_for(lambda: world.events_of("deployment.accepted") == 1)
    assert "was used already" in await world.ask(paid_by(tx_hash))
    assert world.events_of("deployment.accepted") == 1


async def test_a_message_that_is_sent_again_and_again_has_one_effect(world: World) -> None:
    """Byte for byte as it was recorded on the way, also to the next start."""
    job_id, secret = new_id(), token_bytes(32)
    request = paid_by(world.pay())
    message = DeploymentRequest(job_id=job_id, request=request, price=PRICE, seal_key=secret.hex())
    captured = msgspec.json.encode(message)
    slots = asyncio.Semaphore(10)

    async def send() -> DeploymentAnswer:
        async with slots:
            answer = await world.stranger.request(world.provider_id, DEPLOYMENT_REQUEST, captured, 120)
        return msgspec.json.decode(answer, type=DeploymentAnswer)

    answers = await asyncio.gather(*(send() for _ in range(100)))
    assert all(answer.accepted or answer.pending for answer in answers)
    await wait_for(lambda: world.events_of("deployment.container_exited") == 1)
    head = world.provider.head()
    world.provider.kill9()
    world.provider.start()
    await world.provider.ready()
    assert [(await send()).accepted for _ in range(10)] == [True] * 10
    for topic in ("deployment.requested", "deployment.accepted", "deployment.container_started"):
        assert world.events_of(topic) == 1
    assert world.events_of("deployment.requested", after=head) == 0


async def test_transactions_that_do_not_pay_for_the_job_are_refused(world: World) -> None:
    chain = world.chain
    for tx_hash, reason in (
        ("invalidtxhash", "is not a transaction hash"),
        ("", "names no transaction"),
        (chain.pay(chain.accounts[2], PRICE), "pays nothing to the provider's address"),
        (world.pay("0.00000001"), "pays 0.00000001 NTX"),
    ):
        assert reason in await world.ask(paid_by(tx_hash))


@pytest.mark.parametrize("funding_seconds", [2])
async def test_a_transaction_that_never_comes_is_refused_in_time(world: World) -> None:
    assert "was not confirmed within 2 s" in await world.ask(paid_by("0x" + "5a" * 32))


async def test_undervalued_jobs_are_refused_before_the_chain_is_asked(world: World) -> None:
    huge = msgspec.structs.replace(
        GOOD, max_ntx=1, constraints=msgspec.structs.replace(GOOD.constraints, time=1_000_000, complexity="High")
    )
    tx_hash = world.pay("1")
    for price, reason in (
        ("1", "is below the"),
        ("100000", "above the request's own max_ntx"),
        ("-1", "is not an amount"),
        ("NaN", "is not an amount"),
        ("free", "is not an amount"),
        ("0.0272800000001", "more than 8 places"),
    ):
        assert reason in await world.ask(paid_by(tx_hash, huge), price)


async def test_a_price_declared_and_not_paid_is_refused(world: World) -> None:
    assert "pays 1 NTX, the job costs 50 NTX" in await world.ask(paid_by(world.pay("1")), "50")


async def test_wrong_ids_keys_and_services_are_refused(world: World) -> None:
    key = SOMEONE.public_key(SOMEONE.peer_id)
    tx_hash = world.pay()
    for request, reason in (
        (changed(node_id=SOMEONE.peer_id), "node_id is"),
        (changed(local_node_id=SOMEONE.peer_id), "local_node_id is"),
        (changed(public_key=key), "public_key is not the key"),
        (changed(local_public_key=key), "local_public_key is not the key"),
        (msgspec.structs.replace(GOOD, service_type="invalid"), "unknown service type"),
        (msgspec.structs.replace(GOOD, blockchain="Cardano"), "is to be paid on Cardano"),
    ):
        assert reason in await world.ask(paid_by(tx_hash, request))
    right = changed(
        node_id=world.provider_id,
        local_node_id=world.stranger.peer_id,
        public_key=SOMEONE.public_key(world.provider_id),
        local_public_key=SOMEONE.public_key(world.stranger.peer_id),
    )
    assert await world.ask(paid_by(tx_hash, right)) == "accepted"  # none of the refused ones used it up


async def test_over_rest_wrong_ids_keys_and_services_are_a_400(world: World) -> None:
    body = msgspec.to_builtins(GOOD)
    for params, pointer in (
        ({"local_node_id": SOMEONE.peer_id}, "/params/local_node_id"),
        ({"local_public_key": SOMEONE.public_key(SOMEONE.peer_id)}, "/params/local_public_key"),
        ({"node_id": world.provider_id, "public_key": "00" * 32}, "/params/public_key"),
    ):
        sent = body | {"params": body["params"] | params}
        answer = await world.provider.post("/run/request-service", sent, expect=400)
        assert answer["errors"][0]["pointer"] == pointer
    answer = await world.provider.post("/run/request-service", body | {"service_type": "invalid"}, expect=400)
    assert answer["errors"][0]["pointer"] == "/service_type"
    huge = body | {"max_ntx": 1, "constraints": body["constraints"] | {"time": 1_000_000}}
    answer = await world.provider.post("/run/request-service", huge, expect=400)
    assert answer["error"].startswith("nunet estimation price is greater than client price")
    unknown = body | {"params": body["params"] | {"node_id": SOMEONE.peer_id}}
    answer = await world.provider.post("/run/request-service", unknown, expect=404)
    assert answer["error"].startswith("no peers found with matched specs")


async def test_no_withdraw_for_a_job_that_did_not_work_and_no_refund_for_one_that_did(world: World) -> None:
    for script, kind in (("exit 3", "refund"), ("true", "withdraw")):
        tx_hash = world.pay()
        work = changed(model_url=script)
        assert await world.ask(paid_by(tx_hash, work)) == "accepted"
        body = {"tx_hash": tx_hash}
        async with asyncio.timeout(120):
            while not await claimable(world.provider, tx_hash):
                await asyncio.sleep(0.05)
        reward = await world.provider.post("/transactions/request-reward", body)
        assert reward["reward_type"] == kind
        other = {"withdraw": "refund", "refund": "withdraw"}[kind]
        report = {"transaction_type": other, "transaction_status": "success", "tx_hash": tx_hash}
        await world.provider.post("/transactions/send-status", report, expect=409)


async def claimable(provider: Dms, tx_hash: str) -> bool:
    listed = await provider.get("/transactions")
    return any(row["tx_hash"] == tx_hash and row["reward_type"] for row in listed)


async def test_no_reward_while_the_job_runs(world: World) -> None:
    tx_hash = world.pay()
    assert await world.ask(paid_by(tx_hash, changed(model_url="sleep 600"))) == "accepted"
    answer = await world.provider.post("/transactions/request-reward", {"tx_hash": tx_hash}, expect=409)
    assert answer["error"] == "the job is still running"
