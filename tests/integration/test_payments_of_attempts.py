"""A payment on a compute provider: which attempt it pays for, and when it pays for nothing any more."""

from __future__ import annotations

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.funding.trust import TrustCheck
from dms.adapters.p2p.identity import Identity
from dms.application.payments.payments import Paying, payment_of
from dms.application.payments.transactions import DONE, Transactions
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.resources import Resources
from dms.domain.retry import deployment_id
from dms.domain.reward import Fault, RewardType
from dms.errors import Conflict, NotFound
from projections.base import fold
from projections.transactions import TransactionRow
from projections.transactions import Transactions as View
from tests.fixtures.histories import request

PEER, OTHER, HASH = "12D3KooWPeer", "12D3KooWOther", "ab" * 32


@pytest.fixture
def transactions(log: SQLiteEventLog) -> Transactions:
    return Transactions(log, Identity.generate(), TrustCheck())


def asked(job_id: str, peer_id: str = PEER) -> Deployment:
    deployment = Deployment(job_id)
    deployment.ask(peer_id, request(time=10, tx_hash=HASH), "0.4", "")
    return deployment


async def running(log: SQLiteEventLog, job_id: str, peer_id: str = PEER) -> Deployment:
    deployment = asked(job_id, peer_id)
    paying = Paying(log, HASH, job_id, peer_id)
    paying.use()
    deployment.grant(Resources(), ())
    deployment.container_created("c1", "docker")
    deployment.container_started(1)
    await log.save(deployment, paying.payment)
    return deployment


async def listed(log: SQLiteEventLog) -> dict[str, TransactionRow]:
    rows: dict[str, TransactionRow] = {}
    fold(View(), rows, await log.read(0, 1000))
    return rows


def refusal(log: SQLiteEventLog, job_id: str, peer_id: str = PEER) -> str:
    return Paying(log, HASH, job_id, peer_id).refusal


async def test_an_attempt_of_another_peers_job_gets_none_of_its_payment(log: SQLiteEventLog) -> None:
    first = await running(log, new_id())
    second = deployment_id(first.key, 2)
    assert refusal(log, second, OTHER) == "this transaction pays for a job of another peer"
    assert refusal(log, second) == ""
    first.fail("the engine is away", Fault.PROVIDER)
    await log.save(first)
    assert refusal(log, second, OTHER) == "this transaction pays for a job of another peer"


@pytest.mark.parametrize(
    ("fault", "is_repeated"),
    [(Fault.PROVIDER, True), (Fault.NETWORK, True), (Fault.NONE, True), (Fault.REQUESTER, False), (Fault.JOB, False)],
)
async def test_the_next_attempt_has_the_payment_of_one_that_may_be_repeated(
    log: SQLiteEventLog, fault: Fault, is_repeated: bool
) -> None:
    first = await running(log, new_id())
    if fault is Fault.JOB:
        first.exited(1, False, 20.0)
    else:
        first.fail("it is over", fault, duration_seconds=20.0)
    await log.save(first)
    assert first.reward is not None
    assert first.reward.reward_type is RewardType.REFUND
    found = refusal(log, deployment_id(first.key, 2))
    assert (found == "") == is_repeated, found


async def test_no_attempt_takes_the_payment_of_one_that_has_not_ended(log: SQLiteEventLog) -> None:
    """That is no refusal of the payment, which may be free for it soon."""
    first = await running(log, new_id())
    paying = Paying(log, HASH, deployment_id(first.key, 2), PEER)
    assert (paying.refusal, paying.kept_by, paying.can_be_used) == ("", first.key, False)
    with pytest.raises(Conflict, match=f"{first.key}, has not ended here yet"):
        paying.use()
    assert payment_of(log, HASH).job_id == first.key
    first.fail("the engine is away", Fault.PROVIDER)
    await log.save(first)
    paying = Paying(log, HASH, deployment_id(first.key, 2), PEER)
    assert (paying.kept_by, paying.can_be_used) == ("", True)


@pytest.mark.parametrize("way", ["claimed", "paid back"])
async def test_a_refund_that_was_claimed_or_paid_back_pays_for_no_attempt(
    log: SQLiteEventLog, transactions: Transactions, way: str
) -> None:
    first = await running(log, new_id())
    first.fail("the engine is away", Fault.PROVIDER)
    await log.save(first)
    if way == "claimed":
        await transactions.request_reward(HASH)
    else:
        await transactions.report(HASH, "refund", "success")
    for number in (2, 10):
        assert "was claimed or paid already" in refusal(log, deployment_id(first.key, number))
        with pytest.raises(Conflict):
            Paying(log, HASH, deployment_id(first.key, number), PEER).use()


async def test_what_an_attempt_left_owed_is_done_when_the_next_has_the_payment(
    log: SQLiteEventLog, transactions: Transactions
) -> None:
    first = await running(log, new_id())
    first.fail("the engine is away", Fault.PROVIDER)
    await log.save(first)
    second = await running(log, deployment_id(first.key, 2))
    rows = await listed(log)
    assert (rows[first.key].transaction_type, rows[second.key].transaction_type) == (DONE, "running")
    await transactions.hide([(HASH, first.key)])
    rows = await listed(log)
    assert (rows[first.key].hidden, rows[second.key].hidden) == (True, False)
    await transactions.hide([(HASH, first.key), (HASH, second.key)])
    assert all(row.hidden for row in (await listed(log)).values())


@pytest.mark.parametrize("way", ["refused", "stopped"])
async def test_a_payment_that_came_with_a_refused_request_can_be_paid_back_and_pays_for_nothing_then(
    log: SQLiteEventLog, transactions: Transactions, way: str
) -> None:
    deployment = asked(new_id())
    if way == "refused":
        deployment.refuse("no capacity is left")
    else:
        deployment.request_stop("service provider", "enough", Fault.REQUESTER)
        deployment.stopped()
    await log.save(deployment)
    assert refusal(log, new_id()) == "", "it was not counted for the refused one"
    with pytest.raises(NotFound, match="unknown tx hash"):
        await transactions.report("cd" * 32, "refund", "success")
    await transactions.report(f"0x{HASH.upper()}", "refund", "success")
    assert "was used already" in refusal(log, new_id())
    settled = log.load(Deployment, deployment.key)
    assert settled is not None
    assert (settled.settled, payment_of(log, HASH).job_id) == (DONE, deployment.key)
    await transactions.report(HASH, "refund", "success")  # once more is fine


async def test_a_payment_whose_request_is_still_open_is_not_paid_back(
    log: SQLiteEventLog, transactions: Transactions
) -> None:
    await log.save(asked(new_id()))
    with pytest.raises(NotFound):
        await transactions.report(HASH, "refund", "success")
