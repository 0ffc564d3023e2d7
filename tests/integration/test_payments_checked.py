"""A compute provider that looks payments up on a chain, where the moment at which each is seen decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import pytest

from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.funding.ledger import LedgerCheck
from dms.application.deployments import check_payments
from dms.application.device import engine
from dms.application.network.messages import DeploymentRequest
from dms.application.payments import funding
from dms.application.payments.payments import payment_of
from dms.application.ports.funding import FundingState, FundingVerdict, PaymentClaim
from dms.config import Funding
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.event import new_id
from dms.domain.retry import deployment_id
from dms.domain.reward import RewardType
from dms.errors import ExecutorUnavailable
from tests.fixtures.histories import request
from tests.fixtures.provider import answer_to, end_of, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, running_node

LEDGER = Funding(check="ledger", rpc_url="http://127.0.0.1:9/", chain_id=1)
OFFER = {"cpu": 6000, "memory": 12_000, "channel": "nunet-test", "payment_addr": "0x" + "ab" * 20}


class Mined:
    """jobs: the deployments for which the chain has the payment by now; told: of which it was asked since."""

    def __init__(self) -> None:
        self.jobs, self.told = set[str](), list[str]()

    def verdict(self, job_id: str) -> FundingVerdict:
        if job_id not in self.jobs:
            return FundingVerdict(state=FundingState.PENDING, reason="it is not mined yet")
        self.told.append(job_id)
        return FundingVerdict(state=FundingState.ACCEPTED, payer="0x1", units="1", block=1)


@pytest.fixture
def mined(monkeypatch: pytest.MonkeyPatch) -> Mined:
    mined = Mined()

    async def check(_: LedgerCheck, claim: PaymentClaim) -> FundingVerdict:
        return mined.verdict(claim.job_id)

    monkeypatch.setattr(LedgerCheck, "check", check)
    monkeypatch.setattr(funding, "POLL_SECONDS", (0.01, 0.02))
    return mined


class Engine:
    """looks: how often it was asked whether it is there, while it is away."""

    def __init__(self) -> None:
        self.away, self.looks = False, 0

    def check(self) -> None:
        if self.away:
            self.looks += 1
            raise ExecutorUnavailable("it restarts")


@pytest.fixture
def container_engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    container_engine = Engine()

    async def check(_: ProcessExecutor) -> None:
        container_engine.check()

    monkeypatch.setattr(ProcessExecutor, "check", check)
    monkeypatch.setattr(check_payments, "SOON_SECONDS", 0.01, raising=False)
    return container_engine


@pytest.fixture
async def node(tmp_path: Path, mined: Mined) -> AsyncIterator[Node]:
    async with running_node(tmp_path, runs_for_peers=True, funding=LEDGER) as made:
        async with made.client() as client:
            assert (await client.post("/api/v1/onboarding/onboard", json=OFFER)).status_code == 200
        async with providing(made):
            yield made
            await end_all(made)


async def end_all(node: Node) -> None:
    recorded = await node.log.read(0, 10_000, topics=(Deployment.Requested.TOPIC,))
    for job_id in (one.key for one in recorded):
        await node.services.compute_provider.stop(job_id, "operator", "the test is over", Fault.PROVIDER)
        await wait_for(lambda job_id=job_id: found(node, job_id).ended)  # type: ignore[misc]


def asking(script: str, tx_hash: str, job_id: str = "") -> DeploymentRequest:
    job = request(script, cpu=100, ram=64, tx_hash=tx_hash)
    return DeploymentRequest(job_id=job_id or new_id(), request=job, price="1", seal_key=token_hex(32))


def found(node: Node, job_id: str) -> Deployment:
    deployment = node.log.load(Deployment, job_id)
    assert deployment is not None
    return deployment


async def is_refused(node: Node, message: DeploymentRequest) -> str:
    """Why; empty while it is not."""
    answer = await answer_to(node, message)
    return "" if answer.accepted or answer.pending else answer.reason


async def test_a_payment_stays_with_the_attempt_that_runs_whatever_came_of_a_later_one(
    node: Node, mined: Mined, tmp_path: Path
) -> None:
    """The later attempt was asked for first, so neither was refused before its payment was seen."""
    first, tx_hash, go = new_id(), token_hex(32), tmp_path / "go"
    second = deployment_id(first, 2)
    for job_id in (second, first):
        script = f"until [ -e {go} ]; do sleep 0.05; done"
        assert (await answer_to(node, asking(script, tx_hash, job_id))).pending
    mined.jobs.add(first)
    await wait_for(lambda: found(node, first).state is DeploymentState.RUNNING)
    mined.jobs.add(second)
    await wait_for(lambda: found(node, second).ended)
    refused = found(node, second)
    assert refused.rejection == f"an earlier attempt of the job, {first}, has not ended here yet"
    assert (refused.fault, refused.funded) == (Fault.PROVIDER, False)
    assert payment_of(node.log, tx_hash).job_id == first
    assert "was used already" in await is_refused(node, asking("true", tx_hash))
    go.touch()
    assert await end_of(node, first) == (Fault.NONE, "exit code 0")
    claim = await node.services.transactions.request_reward(tx_hash)
    assert (claim.job_id, claim.reward_type) == (first, RewardType.WITHDRAW)
    assert "was used already" in await is_refused(node, asking("true", tx_hash))
    assert "has earned of this transaction" in await is_refused(node, asking("true", tx_hash, deployment_id(first, 3)))


async def test_a_later_attempt_that_is_decided_first_has_the_payment_and_the_first_does_not_get_it_back(
    node: Node, mined: Mined
) -> None:
    first, tx_hash = new_id(), token_hex(32)
    second, third = deployment_id(first, 2), deployment_id(first, 3)
    for job_id in (third, second, first):
        assert (await answer_to(node, asking("sleep 300", tx_hash, job_id))).pending
    mined.jobs.add(second)
    await wait_for(lambda: found(node, second).state is DeploymentState.RUNNING)
    mined.jobs.update((first, third))
    await wait_for(lambda: found(node, first).ended and found(node, third).ended)
    assert payment_of(node.log, tx_hash).job_id == second
    assert [found(node, job_id).funded for job_id in (first, second, third)] == [False, True, False]


async def test_a_job_whose_payment_is_seen_while_the_engine_is_briefly_away_waits_for_it(
    node: Node, mined: Mined, container_engine: Engine
) -> None:
    """The chain is asked once: what it said is not lost over the wait."""
    message = asking("true", token_hex(32))
    assert (await answer_to(node, message)).pending
    container_engine.away = True
    await wait_for(lambda: container_engine.looks > 0)
    mined.jobs.add(message.job_id)
    await wait_for(lambda: bool(mined.told))
    looks = container_engine.looks
    await wait_for(lambda: container_engine.looks > looks + 2 or found(node, message.job_id).ended)
    assert found(node, message.job_id).state is DeploymentState.CHECKING
    container_engine.away = False
    assert await end_of(node, message.job_id) == (Fault.NONE, "exit code 0")
    assert mined.told == [message.job_id]


async def test_a_stop_ends_the_wait_for_the_engine(node: Node, mined: Mined, container_engine: Engine) -> None:
    message = asking("true", token_hex(32))
    assert (await answer_to(node, message)).pending
    container_engine.away = True
    await wait_for(lambda: container_engine.looks > 0)
    mined.jobs.add(message.job_id)
    await wait_for(lambda: bool(mined.told))
    await node.services.compute_provider.stop(message.job_id, "service provider", "enough", Fault.REQUESTER)
    assert await end_of(node, message.job_id) == (Fault.REQUESTER, "enough")


async def test_a_paid_job_is_refused_and_owed_back_when_the_engine_stays_away(
    node: Node, mined: Mined, container_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ENGINE_GRACE_SECONDS", 0.0)
    message = asking("true", token_hex(32))
    assert (await answer_to(node, message)).pending
    container_engine.away = True
    await wait_for(lambda: container_engine.looks > 0)
    mined.jobs.add(message.job_id)
    await wait_for(lambda: found(node, message.job_id).ended)
    refused = found(node, message.job_id)
    assert (refused.rejection, refused.fault) == (
        "the provider's container engine does not answer: it restarts",
        Fault.PROVIDER,
    )
    assert (refused.funded, payment_of(node.log, message.request.tx_hash).job_id) == (True, message.job_id)
