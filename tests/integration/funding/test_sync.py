"""Repayments looked up on a real chain settle the rewards of both roles, each repayment one of them."""

from __future__ import annotations

from typing import Any

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
from dms.errors import Unavailable
from tests.fixtures.ethereum import CHAIN_ID, Chain, refusing_node
from tests.fixtures.histories import request as requested


async def ended(
    log: SQLiteEventLog, chain: Chain, tx_hash: str, exit_code: int, price: str = "0.4", user: str | None = None
) -> str:
    """A job that ran here for a few seconds of ten minutes. user: the address that the request names."""
    deployment = Deployment(new_id())
    address = chain.accounts[0] if user is None else user
    asked = requested(time=10, tx_hash=tx_hash, blockchain="Ethereum", address_user=address)
    deployment.ask("12D3KooWOther", asked, price, chain.accounts[1])
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
    assert (await rewards.sync(paid)).updated == 0
    chain.pay_token(token, chain.accounts[0], "0.39", sender=chain.accounts[1])  # too little for any
    chain.pay_token(token, chain.accounts[0], "0.4", sender=chain.accounts[1])
    assert (await rewards.sync(paid)).updated == 1
    assert [settled(log, job_id) for job_id in jobs] == ["refunded", ""]
    assert (await rewards.sync(paid)).updated == 0  # the same repayment does not count twice
    chain.pay_token(token, chain.accounts[0], "0.4", sender=chain.accounts[1])
    assert (await rewards.sync(paid)).updated == 1
    assert [settled(log, job_id) for job_id in jobs] == ["refunded", "refunded"]
    await check.close()


async def test_who_paid_is_paid_back_where_the_request_names_nobody(chain: Chain, log: SQLiteEventLog) -> None:
    token = chain.deploy_token()
    check = LedgerCheck(Funding(rpc_url=chain.url, chain_id=CHAIN_ID, token_address=token, confirmations=1))
    rewards = Transactions(log, Identity.generate(), check)
    paid = chain.pay_token(token, chain.accounts[1], "0.4")
    job_id = await ended(log, chain, paid, exit_code=1, user="")
    reward = await rewards.request_reward(paid)
    assert reward.service_provider_addr == chain.accounts[0].lower()
    assert chain.accounts[0].lower() in reward.datum
    chain.pay_token(token, chain.accounts[0], "0.4", sender=chain.accounts[1])
    assert (await rewards.sync([paid])).updated == 1
    assert settled(log, job_id) == "refunded"
    await check.close()


async def test_a_withdraw_is_settled_while_its_payment_stands(chain: Chain, log: SQLiteEventLog) -> None:
    check = LedgerCheck(Funding(rpc_url=chain.url, chain_id=CHAIN_ID, confirmations=1))
    rewards = Transactions(log, Identity.generate(), check)
    good, lie = chain.pay(chain.accounts[1], "0.4"), chain.pay(chain.accounts[1], "0.1")
    jobs = [await ended(log, chain, tx_hash, exit_code=0) for tx_hash in (good, lie)]
    assert (await rewards.sync([good, lie])).updated == 1
    assert [settled(log, job_id) for job_id in jobs] == ["withdrawn", ""]
    await check.close()


async def test_a_repayment_settles_what_is_owed_just_that(chain: Chain, log: SQLiteEventLog) -> None:
    token = chain.deploy_token()
    chain.pay_token(token, chain.accounts[1], "5")
    check = LedgerCheck(Funding(rpc_url=chain.url, chain_id=CHAIN_ID, token_address=token, confirmations=1))
    rewards = Transactions(log, Identity.generate(), check)
    prices = ("0.5", "1", "0.2")
    paid = [chain.pay_token(token, chain.accounts[1], price) for price in prices]
    jobs = [await ended(log, chain, tx, exit_code=1, price=price) for tx, price in zip(paid, prices, strict=True)]
    chain.pay_token(token, chain.accounts[0], "1", sender=chain.accounts[1])
    chain.pay_token(token, chain.accounts[0], "0.6", sender=chain.accounts[1])
    assert (await rewards.sync(paid)).updated == 2
    assert [settled(log, job_id) for job_id in jobs] == ["refunded", "refunded", ""]
    await check.close()


async def test_a_look_up_that_fails_keeps_no_other_from_being_settled(chain: Chain, log: SQLiteEventLog) -> None:
    token, stranger = chain.deploy_token(), chain.accounts[4]

    def refuses(method: str, params: list[Any]) -> bool:
        return method == "eth_getLogs" and params[0]["topics"][2].endswith(stranger.lower()[2:])

    paid = [chain.pay_token(token, chain.accounts[1], "0.4") for _ in range(3)]
    users = (stranger, chain.accounts[0], chain.accounts[0])
    for tx_hash, user, price in zip(paid, users, ("0.4", "0.4", "0.1"), strict=True):
        await ended(log, chain, tx_hash, exit_code=1, user=user, price=price)
    chain.pay_token(token, chain.accounts[0], "0.4", sender=chain.accounts[1])
    chain.pay_token(token, chain.accounts[0], "0.3", sender=chain.accounts[1])
    async with refusing_node(chain, refuses) as (url, _):
        check = LedgerCheck(Funding(rpc_url=url, chain_id=CHAIN_ID, token_address=token, confirmations=1))
        rewards = Transactions(log, Identity.generate(), check)
        synced = await rewards.sync(["ff" * 32, *paid])
        assert (synced.updated, synced.failed, synced.trouble) == (1, 2, "unknown tx hash")  # 0.3 may be the other's
        with pytest.raises(Unavailable, match="refuses eth_getLogs"):
            await rewards.sync(paid[:1])
        assert (await rewards.sync(["ff" * 32, *paid[1:]])).updated == 1
        await check.close()
