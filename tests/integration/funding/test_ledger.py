"""The ledger's funding check against a real chain over real JSON-RPC: what it accepts, refuses, and waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import pytest

from dms.adapters.funding import ledger
from dms.adapters.funding.ledger import LedgerCheck
from dms.adapters.funding.rpc import EthereumRpc
from dms.application.payments.funding import PatientCheck, claim_of
from dms.application.ports.funding import FundingState, FundingVerdict, PaymentClaim, Repayment
from dms.config import Funding
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.errors import ConfigError, Unavailable
from tests.fixtures.ethereum import CHAIN_ID, TRANSFER_FROM, TRANSFER_TWO, Chain, refusing_node, units
from tests.fixtures.histories import request
from tests.fixtures.waiting import wait_for

PRICE = "0.02728"


def claim(chain: Chain, tx_hash: str, **changes: str) -> PaymentClaim:
    made = PaymentClaim(job_id=new_id(), tx_hash=tx_hash, price=PRICE, payee=chain.accounts[1], blockchain="Ethereum")
    return msgspec.structs.replace(made, **changes)


def settings(chain: Chain, **changes: object) -> Funding:
    made = Funding(rpc_url=chain.url, chain_id=CHAIN_ID, confirmations=1)
    return msgspec.structs.replace(made, **changes)


async def verdict(settings: Funding, claim: PaymentClaim) -> FundingVerdict:
    check = LedgerCheck(settings)
    try:
        return await check.check(claim)
    finally:
        await check.close()


async def test_native_payment_of_the_very_price_is_accepted(chain: Chain) -> None:
    tx_hash = chain.pay(chain.accounts[1], PRICE)
    found = await verdict(settings(chain), claim(chain, tx_hash))
    assert found.state is FundingState.ACCEPTED
    assert (found.units, found.payer) == (str(units(PRICE)), chain.accounts[0].lower())
    assert found.block > 0


async def test_all_spellings_of_hash_and_address_are_one(chain: Chain) -> None:
    tx_hash = chain.pay(chain.accounts[1], PRICE)
    for spelled in (tx_hash.upper().replace("0X", "0x"), tx_hash.removeprefix("0x"), f" {tx_hash} "):
        found = await verdict(settings(chain), claim(chain, spelled, payee=chain.accounts[1].lower()))
        assert found.state is FundingState.ACCEPTED


async def test_one_unit_short_is_refused_and_says_both_amounts(chain: Chain) -> None:
    tx_hash = chain.pay(chain.accounts[1], "0.027279999999999999")
    found = await verdict(settings(chain), claim(chain, tx_hash))
    assert found.state is FundingState.REFUSED
    assert "pays 0.027279999999999999 NTX, the job costs 0.02728 NTX" in found.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payee": "0x" + "ab" * 20}, "pays nothing to the provider's address"),
        ({"payer": "0x" + "cd" * 20}, "was paid by another address than"),
        ({"payee": "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw"}, "not one of Ethereum"),
        ({"blockchain": "Cardano"}, "is to be paid on Cardano"),
        ({"tx_hash": "invalidtxhash"}, "is not a transaction hash"),
        ({"tx_hash": ""}, "is not a transaction hash"),
    ],
)
async def test_a_payment_that_is_not_this_jobs_is_refused(chain: Chain, changes: dict[str, str], reason: str) -> None:
    paid = claim(chain, chain.pay(chain.accounts[1], PRICE))
    found = await verdict(settings(chain), msgspec.structs.replace(paid, **changes))
    assert found.state is FundingState.REFUSED
    assert reason in found.reason


async def test_the_payer_is_who_the_request_says(chain: Chain) -> None:
    tx_hash = chain.pay(chain.accounts[1], PRICE, sender=chain.accounts[3])
    found = await verdict(settings(chain), claim(chain, tx_hash, payer=chain.accounts[3]))
    assert found.state is FundingState.ACCEPTED


async def test_an_unknown_hash_is_waited_for(chain: Chain) -> None:
    found = await verdict(settings(chain), claim(chain, "0x" + "12" * 32))
    assert found.state is FundingState.PENDING
    assert "in no block of the chain yet" in found.reason


async def test_a_payment_is_waited_for_until_it_is_deep_enough(own_chain: Chain) -> None:
    own_chain.automine(False)
    tx_hash = own_chain.pay(own_chain.accounts[1], PRICE)
    paid, deep = claim(own_chain, tx_hash), settings(own_chain, confirmations=3)
    assert "in no block" in (await verdict(deep, paid)).reason
    own_chain.mine()
    assert "1 of 3 confirmations" in (await verdict(deep, paid)).reason
    own_chain.mine(2)
    assert (await verdict(deep, paid)).state is FundingState.ACCEPTED


async def test_a_node_of_another_chain_is_told_and_nothing_refused(chain: Chain) -> None:
    tx_hash = chain.pay(chain.accounts[1], PRICE)
    with pytest.raises(Unavailable, match=r"on chain 31337, but funding\.chain_id is 1"):
        await verdict(settings(chain, chain_id=1), claim(chain, tx_hash))


# --- tokens ------------------------------------------------------------------------------------------
async def test_a_token_payment_is_accepted_in_the_tokens_own_units(chain: Chain) -> None:
    token = chain.deploy_token()
    six = settings(chain, token_address=token, token_decimals=6)
    good = chain.pay_token(token, chain.accounts[1], PRICE, decimals=6)
    found = await verdict(six, claim(chain, good))
    assert (found.state, found.units) == (FundingState.ACCEPTED, "27280")
    short = await verdict(six, claim(chain, good, price="0.02728001"))
    assert short.state is FundingState.REFUSED  # a price between two units is owed in full


async def test_who_paid_most_is_the_payer_and_who_moved_nothing_is_none(chain: Chain) -> None:
    token, payee = chain.deploy_token(), chain.accounts[1]
    ours = settings(chain, token_address=token)
    payer, _, idle, small = chain.accounts[:4]
    chain.pay_token(token, small, "1")
    nothing_from = chain.call_token(token, TRANSFER_TWO, idle, payer, payee, 0, units(PRICE))
    found = await verdict(ours, claim(chain, nothing_from))
    assert (found.state, found.payer) == (FundingState.ACCEPTED, payer.lower())
    refused = await verdict(ours, claim(chain, nothing_from, payer=idle))
    assert "was paid by another address" in refused.reason
    for first, second, most in ((small, payer, payer), (payer, small, small)):
        both = chain.call_token(token, TRANSFER_TWO, first, second, payee, 5, units(PRICE))
        found = await verdict(ours, claim(chain, both))
        assert (found.payer, found.units) == (most.lower(), str(units(PRICE) + 5))
    nothing = chain.call_token(token, TRANSFER_TWO, idle, idle, payee, 0, 0)
    assert "pays nothing" in (await verdict(ours, claim(chain, nothing))).reason
    assert (await verdict(ours, claim(chain, nothing, price="0"))).state is FundingState.ACCEPTED


async def test_another_token_or_the_chains_own_coin_does_not_count(chain: Chain) -> None:
    token, other = chain.deploy_token(), chain.deploy_token()
    ours = settings(chain, token_address=token)
    for tx_hash in (
        chain.pay_token(other, chain.accounts[1], "5"),
        chain.pay(chain.accounts[1], "5"),
        chain.pay_token(token, chain.accounts[2], "5"),
    ):
        found = await verdict(ours, claim(chain, tx_hash))
        assert found.state is FundingState.REFUSED
        assert "pays nothing to the provider's address" in found.reason
    to_token = chain.pay_token(token, chain.accounts[1], "5")
    assert (await verdict(settings(chain), claim(chain, to_token))).state is FundingState.REFUSED


async def test_a_failed_transaction_is_refused(chain: Chain) -> None:
    token = chain.deploy_token()
    tx_hash = chain.pay_token(token, chain.accounts[1], "1", sender=chain.accounts[5])  # who has none
    found = await verdict(settings(chain, token_address=token), claim(chain, tx_hash))
    assert found.state is FundingState.REFUSED
    assert "failed on the chain" in found.reason


async def test_repayments_of_a_token_are_found(chain: Chain) -> None:
    token = chain.deploy_token()
    provider, requester = chain.accounts[0], chain.accounts[4]
    chain.pay_token(token, requester, "0.01", sender=provider)
    whole = chain.pay_token(token, requester, "0.02", sender=provider)
    chain.pay_token(token, chain.accounts[6], "9", sender=provider)
    check = LedgerCheck(settings(chain, token_address=token))
    paid = claim(chain, "0x" + "00" * 32, payee=provider, payer=requester)
    assert list(await check.repayments(paid, "0.02", 0)) == [Repayment(tx_hash=whole)]
    (more,) = await check.repayments(paid, "0.015", 0)
    assert (more.tx_hash, more.excess_units) == (whole, units("0.005"))
    await check.close()


def longer_than(blocks: int, method: str, params: list[Any]) -> bool:
    """Whether so long a range is asked for."""
    if method != "eth_getLogs":
        return False
    first, last = params[0]["fromBlock"], params[0]["toBlock"]
    return last == "latest" or int(last, 16) - int(first, 16) >= blocks


@pytest.mark.parametrize(("longest", "most_calls"), [(14, 9), (10, 9), (9, 4)])
async def test_repayments_are_found_where_the_node_refuses_long_ranges(
    own_chain: Chain, monkeypatch: pytest.MonkeyPatch, longest: int, most_calls: int
) -> None:
    monkeypatch.setattr(ledger, "LEAST_SPAN_BLOCKS", 10)
    token, (provider, requester) = own_chain.deploy_token(), own_chain.accounts[:2]
    paid = []
    for _ in range(3):
        paid.append(own_chain.pay_token(token, requester, "0.02", sender=provider))
        own_chain.mine(15)

    async with refusing_node(own_chain, partial(longer_than, longest)) as (url, asked):
        check = LedgerCheck(settings(own_chain, rpc_url=url, token_address=token))
        owed = claim(own_chain, "0x" + "00" * 32, payee=provider, payer=requester)
        if longest < 10:
            with pytest.raises(Unavailable, match="refuses eth_getLogs"):
                await check.repayments(owed, "0.02", 1)
        else:
            assert [found.tx_hash for found in await check.repayments(owed, "0.02", 1)] == paid
        await check.close()
    assert len([method for method, _ in asked if method == "eth_getLogs"]) <= most_calls


async def test_one_look_up_asks_so_many_times_at_most(own_chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LEAST_SPAN_BLOCKS", 10)
    monkeypatch.setattr(ledger, "MOST_LOG_CALLS", 3)
    token, (provider, requester) = own_chain.deploy_token(), own_chain.accounts[:2]
    own_chain.mine(35)

    async with refusing_node(own_chain, partial(longer_than, 10)) as (url, asked):
        check = LedgerCheck(settings(own_chain, rpc_url=url, token_address=token))
        with pytest.raises(Unavailable, match="10 blocks at once"):
            await check.repayments(claim(own_chain, "", payee=provider, payer=requester), "1", 1)
        await check.close()
    assert len(asked) == 3 + 3  # the chain's id, the whole range, the last block


# --- a payment bound to its job ------------------------------------------------------------------------
def asked_for(peer_id: str, payee: str) -> Deployment:
    deployment = Deployment(new_id())
    deployment.ask(peer_id, request(), PRICE, payee)
    return deployment


async def test_a_payment_that_names_its_job_pays_for_no_other(chain: Chain) -> None:
    token = chain.deploy_token()
    mine, thiefs = (
        claim_of(asked_for(peer_id, chain.accounts[1]), "", "12D3KooWProvider", peer_id)
        for peer_id in ("12D3KooWMine", "12D3KooWThief")
    )
    native = chain.pay(chain.accounts[1], PRICE, data="0x" + mine.terms_hash)
    in_token = chain.pay_token(token, chain.accounts[1], PRICE, more_data=mine.terms_hash)
    for known, tx_hash in ((settings(chain), native), (settings(chain, token_address=token), in_token)):
        found = await verdict(known, msgspec.structs.replace(mine, tx_hash=tx_hash))
        assert found.state is FundingState.ACCEPTED, found.reason
        stolen = await verdict(known, msgspec.structs.replace(thiefs, tx_hash=tx_hash))
        assert stolen.state is FundingState.REFUSED
        assert "hash of other terms" in stolen.reason


async def test_what_a_call_has_for_arguments_is_no_hash_of_terms(chain: Chain) -> None:
    token, payer, payee = chain.deploy_token(), chain.accounts[0], chain.accounts[1]
    mine = claim_of(asked_for("12D3KooWMine", payee), "", "12D3KooWProvider", "12D3KooWMine")
    known = settings(chain, token_address=token)
    for tx_hash in (
        chain.call_token(token, TRANSFER_FROM, payer, payee, units(PRICE)),
        chain.call_token(token, TRANSFER_FROM, payer, payee, units(PRICE), more_data=mine.terms_hash),
        chain.call_token(token, TRANSFER_TWO, payer, payer, payee, units(PRICE), 0),
    ):
        found = await verdict(known, msgspec.structs.replace(mine, tx_hash=tx_hash))
        assert found.state is FundingState.ACCEPTED, found.reason
    other = chain.call_token(token, TRANSFER_FROM, payer, payee, units(PRICE), more_data="ab" * 32)
    found = await verdict(known, msgspec.structs.replace(mine, tx_hash=other))
    assert "hash of other terms" in found.reason


async def test_where_terms_are_required_a_payment_without_them_is_refused(chain: Chain) -> None:
    token, payer, payee = chain.deploy_token(), chain.accounts[0], chain.accounts[1]
    mine = claim_of(asked_for("12D3KooWMine", payee), "", "12D3KooWProvider", "12D3KooWMine")
    native = settings(chain, require_terms=True)
    in_token = settings(chain, token_address=token, require_terms=True)
    plain = (
        (native, chain.pay(payee, PRICE)),
        (in_token, chain.pay_token(token, payee, PRICE)),
        (in_token, chain.call_token(token, TRANSFER_TWO, payer, payer, payee, units(PRICE), 0)),
    )
    for known, tx_hash in plain:
        found = await verdict(known, msgspec.structs.replace(mine, tx_hash=tx_hash))
        assert found.state is FundingState.REFUSED
        assert "carries no hash of the job's terms" in found.reason
    bound = (
        (native, chain.pay(payee, PRICE, data="0x" + mine.terms_hash)),
        (in_token, chain.pay_token(token, payee, PRICE, more_data=mine.terms_hash)),
    )
    for known, tx_hash in bound:
        found = await verdict(known, msgspec.structs.replace(mine, tx_hash=tx_hash))
        assert found.state is FundingState.ACCEPTED, found.reason


async def test_an_old_payment_pays_for_no_job_and_stands_for_the_one_that_it_paid_for(chain: Chain) -> None:
    paid = claim(chain, chain.pay(chain.accounts[1], PRICE))
    block = chain.rpc("eth_getTransactionReceipt", paid.tx_hash)["blockNumber"]
    made_at = int(chain.rpc("eth_getBlockByNumber", block, False)["timestamp"], 16) * 1_000_000
    now = made_at + 2 * DAY_US - 1_000_000
    check = LedgerCheck(settings(chain, max_payment_age=2.0), lambda: now)
    assert (await check.check(paid)).state is FundingState.ACCEPTED
    now = made_at + 5 * DAY_US // 2
    refused = await check.check(paid)
    assert refused.state is FundingState.REFUSED
    assert "is 2.5 days old: one of more than 2 days pays for no job here" in refused.reason
    assert await check.repayments(paid, "0", 0) == [Repayment(tx_hash=paid.tx_hash)]
    await check.close()


# --- a node that is away, or talks nonsense --------------------------------------------------------------
async def test_a_node_away_and_back(own_chain: Chain) -> None:
    tx_hash = own_chain.pay(own_chain.accounts[1], PRICE)
    paid = claim(own_chain, tx_hash)
    await wait_for(lambda: own_chain.rpc("eth_getTransactionReceipt", tx_hash) is not None)  # a stop drops what waits
    own_chain.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        await verdict(settings(own_chain), paid)
    own_chain.start()
    assert (await verdict(settings(own_chain), paid)).state is FundingState.ACCEPTED


@pytest.fixture
async def liar() -> AsyncIterator[tuple[str, list[bytes]]]:
    """(address, the answers it gives to whatever is asked: the last for ever)."""
    answers: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        body = answers[0] if len(answers) == 1 else answers.pop(0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", answers


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"7", b'{"id": 99, "result": "0x1"}', b'{"id": 1, "result": "one"}',
        b'{"id": 1, "result": null}', b'{"id": 1, "error": {"code": -32000, "message": "no"}}',
        b'{"id": 1, "error": "no"}', b'{"id": 1, "result": "0x' + b"f" * 100 + b'"}',
    ],
    ids=repr,
)  # fmt: skip
async def test_a_node_that_talks_nonsense_is_as_good_as_away(liar: tuple[str, list[bytes]], body: bytes) -> None:
    url, answers = liar
    answers.append(body)
    with pytest.raises(Unavailable):
        await verdict(Funding(rpc_url=url, chain_id=1), PaymentClaim(
            job_id=new_id(), tx_hash="ab" * 32, price=PRICE, payee="0x" + "ab" * 20,
        ))  # fmt: skip


async def test_an_answer_that_drips_is_given_up() -> None:
    left = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        left.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        rpc = EthereumRpc(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", call_seconds=0.5)
        async with asyncio.timeout(120):
            with pytest.raises(Unavailable, match=r"does not answer eth_chainId within 0\.5 s"):
                await rpc.call("eth_chainId")
            await rpc.close()
            await left.wait()


@pytest.mark.parametrize("receipt", ["{}", '{"blockNumber": 5}', '{"blockNumber": "0x5", "status": "0x1", "logs": 5}'])
async def test_a_receipt_that_is_none_is_not_believed(liar: tuple[str, list[bytes]], receipt: str) -> None:
    url, answers = liar
    answers += [b'{"id": 1, "result": "0x1"}', f'{{"id": 2, "result": {receipt}}}'.encode()]
    with pytest.raises(Unavailable, match="nonsense"):
        await verdict(Funding(rpc_url=url, chain_id=1), PaymentClaim(
            job_id=new_id(), tx_hash="ab" * 32, price=PRICE, payee="0x" + "ab" * 20,
        ))  # fmt: skip


async def test_the_key_in_the_nodes_address_is_never_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dms")
    rpc = EthereumRpc("http://user:hunter2@127.0.0.1:9/v3/secret-key")
    with pytest.raises(Unavailable) as failed:
        await rpc.call("eth_chainId")
    await rpc.close()
    told = [str(failed.value), caplog.text]
    for wrong in ("http://127.0.0.1:99999/secret-key", "http://[::/secret-key", "ftp://host/secret-key", "http:///x"):
        with pytest.raises(ConfigError) as refused:
            EthereumRpc(wrong)
        told.append(str(refused.value))
    for text in told:
        assert "hunter2" not in text
        assert "secret-key" not in text


DAY_US = 86_400_000_000


# --- patience ------------------------------------------------------------------------------------------
async def test_patience_ends_and_says_what_was_waited_for(chain: Chain) -> None:
    now = 1_000_000_000
    check = LedgerCheck(settings(chain))
    patient = PatientCheck(check, 600, lambda: now)
    unseen = claim(chain, "0x" + "34" * 32)
    waiting = await patient.decide(unseen, 0)
    assert waiting.verdict.state is FundingState.PENDING
    assert waiting.until == 1_600_000_000
    assert 0 < waiting.pause_seconds <= 1
    for step in (5 * DAY_US, -10 * DAY_US):  # ends no patience
        now += step
        assert (await patient.decide(unseen, waiting.until)).verdict.state is FundingState.PENDING
    now = 1_599_000_000
    restarted = PatientCheck(check, 600, lambda: now)
    assert (await restarted.decide(unseen, waiting.until)).pause_seconds <= 1  # not beyond the end
    now = waiting.until
    late = await PatientCheck(check, 600, lambda: now).decide(unseen, waiting.until)
    assert late.verdict.state is FundingState.REFUSED
    assert "was not confirmed within 600 s: transaction 0x3434" in late.verdict.reason
    await check.close()
