"""What every funding check must do: the one that believes, and the one that looks at a real chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from dms.adapters.funding.ledger import LedgerCheck
from dms.adapters.funding.trust import TrustCheck
from dms.application.ports.funding import FundingCheck, FundingState, PaymentClaim
from dms.config import Funding
from dms.domain.event import new_id
from dms.errors import Unavailable
from tests.fixtures.ethereum import CHAIN_ID, Chain

PRICE = "0.13640001"
KINDS = ("trust", "ledger", "ledger-token")


@asynccontextmanager
async def checked(kind: str, chain: Chain) -> AsyncIterator[tuple[FundingCheck, PaymentClaim]]:
    """A check of that kind, and a claim with a good payment."""
    payee = chain.accounts[1]
    if kind == "trust":
        check: FundingCheck = TrustCheck()
        tx_hash = "00" * 32
    elif kind == "ledger":
        check = LedgerCheck(Funding(rpc_url=chain.url, chain_id=CHAIN_ID, confirmations=1))
        tx_hash = chain.pay(payee, PRICE)
    else:
        token = chain.deploy_token()
        settings = Funding(rpc_url=chain.url, chain_id=CHAIN_ID, confirmations=1, token_address=token, token_decimals=8)
        check = LedgerCheck(settings)
        tx_hash = chain.pay_token(token, payee, PRICE, decimals=8)
    claim = PaymentClaim(job_id=new_id(), tx_hash=tx_hash, price=PRICE, payee=payee, blockchain="Ethereum")
    try:
        yield check, claim
    finally:
        await check.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_payment_is_accepted_as_often_as_asked(kind: str, chain: Chain) -> None:
    async with checked(kind, chain) as (check, claim):
        first, second = await check.check(claim), await check.check(claim)
    assert first == second
    assert (first.state, first.reason) == (FundingState.ACCEPTED, "")


@pytest.mark.parametrize("kind", KINDS)
async def test_it_has_a_name_and_can_be_closed_twice(kind: str, chain: Chain) -> None:
    async with checked(kind, chain) as (check, _claim):
        assert check.name == kind.partition("-")[0]
        await check.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_paid_elsewhere_than_on_its_blockchain_is_never_good(kind: str, chain: Chain) -> None:
    cardano = "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw"
    async with checked(kind, chain) as (check, claim):
        for change in ({"blockchain": "Cardano"}, {"payee": cardano}, {"payee": ""}):
            found = await check.check(msgspec.structs.replace(claim, **change))
            assert (found.state is FundingState.REFUSED) == (check.blockchain == "Ethereum"), change


@pytest.mark.parametrize("kind", KINDS)
async def test_a_repayment_is_found_or_said_to_be_unavailable_and_never_made_up(kind: str, chain: Chain) -> None:
    async with checked(kind, chain) as (check, claim):
        try:
            found = await check.repayments(claim, "1", 0)
        except Unavailable:
            found = []
    assert list(found) == []
