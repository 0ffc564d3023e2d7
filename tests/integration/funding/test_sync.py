"""Repayments looked up on a real chain settle the rewards of both roles, each repayment one of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.funding.ledger import LedgerCheck
from dms.adapters.p2p.identity import Identity
from dms.application.payments.transactions import Transactions
from dms.config import Funding
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.payment import Payment, payment_key
from dms.domain.resources import Resources
from tests.fixtures.ethereum import CHAIN_ID, Chain
from tests.fixtures.histories import request as requested


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SQLiteEventLog]:
    event_log = SQLiteEventLog(tmp_path / "events.db", lambda: time.time_ns() // 1000)
    await event_log.start()
    yield event_log
    await event_log.close()


async def ended(log: SQLiteEventLog, chain: Chain, tx_hash: str, exit_code: int) -> str:
    """A job that ran here for a few seconds of ten minutes."""
    deployment = Deployment(new_id())
    asked = requested(time=10, tx_hash=tx_hash, blockchain="Ethereum", address_user=chain.accounts[0])
    deployment.ask("12D3KooWOther", asked, "0.4", chain.accounts[1])
    deployment.accept_funding("ledger", chain.accounts[0].lower(), "1", 1)
    deployment.grant(Resources(), ())
    deployment.container_created("c1", "docker")
    deployment.container_started(1)
    deployment.trigger(Deployment.ContainerExited(exit_code=exit_code, duration_seconds=5.0))
    payment = Payment(payment_key(tx_hash))
    payment.use(deployment.key)
    await log.save(deployment, payment)
    return deployment.key


def settled(log: SQLiteEventLog, job_id: str) -> str:
    deployment = log.load(Deployment, job_id)
    assert deployment is not None
    return deployment.settled


async def test_each_repayment_settles_one_refund(chain: Chain, log: SQLiteEventLog) -> None:
    token = chain.deploy_token()
    chain.pay_token(token, chain.accounts[1], "5")
    check = LedgerCheck(Funding(rpc_url=chain.url, chain_id=CHAIN_ID, token_address=token, confirmations=1))
    rewards = Transactions(log, Identity.generate(), check)
    paid = [chain.pay_token(token, chain.accounts[1], "0.4") for _ in range(2)]
    jobs = [await ended(log, chain, tx_hash, exit_code=1) for tx_hash in paid]
    assert await rewards.sync(paid) == 0
    chain.pay_token(token, chain.accounts[0], "0.39", sender=chain.accounts[1])  # too little for any
    chain.pay_token(token, chain.accounts[0], "0.4", sender=chain.accounts[1])
    assert await rewards.sync(paid) == 1
    assert [settled(log, job_id) for job_id in jobs] == ["refunded", ""]
    assert await rewards.sync(paid) == 0  # the same repayment does not count twice
    chain.pay_token(token, chain.accounts[0], "0.4", sender=chain.accounts[1])
    assert await rewards.sync(paid) == 1
    assert [settled(log, job_id) for job_id in jobs] == ["refunded", "refunded"]
    await check.close()


async def test_a_withdraw_is_settled_while_its_payment_stands(chain: Chain, log: SQLiteEventLog) -> None:
    check = LedgerCheck(Funding(rpc_url=chain.url, chain_id=CHAIN_ID, confirmations=1))
    rewards = Transactions(log, Identity.generate(), check)
    good, lie = chain.pay(chain.accounts[1], "0.4"), chain.pay(chain.accounts[1], "0.1")
    jobs = [await ended(log, chain, tx_hash, exit_code=0) for tx_hash in (good, lie)]
    assert await rewards.sync([good, lie]) == 1
    assert [settled(log, job_id) for job_id in jobs] == ["withdrawn", ""]
    await check.close()
