"""The funding check that looks payments up on an Ethereum chain: native value, or one token's ERC-20 Transfers.

What is looked at: the node serves the configured chain; the transaction succeeded; it is deep enough, and not too
old; it paid the provider's own address at least the price, in whole smallest units; the hash of terms that it carries.
That a hash pays for one job only is the log's rule (domain/payment.py). Limits are in docs/rewards.md.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from dms.adapters.funding.rpc import CallRefused, EthereumRpc
from dms.application.ports.funding import FundingState, FundingVerdict, PaymentClaim, Repayment
from dms.config import Funding
from dms.domain.reward import amount, from_units, to_units
from dms.domain.wallet import ETHEREUM, is_address_of, other_blockchain, other_payee
from dms.errors import Unavailable

NATIVE_DECIMALS = 18
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"  # keccak("Transfer(address,...)")
# transfer(address,uint256), transferFrom(address,address,uint256) by selector: what follows their arguments is ours to
# read. What follows in another call are that call's own arguments.
CALL_BYTES = {"a9059cbb": 4 + 2 * 32, "23b872dd": 4 + 3 * 32}
LEAST_SPAN_BLOCKS, MOST_LOG_CALLS = 1_000, 256  # of one look-up of repayments, where the node refuses longer ranges
_HASH = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")


class _Log(Struct, frozen=True):
    address: str
    topics: tuple[str, ...]
    data: str
    transaction_hash: str = msgspec.field(name="transactionHash", default="")
    removed: bool = False


class _Receipt(Struct, frozen=True, kw_only=True):
    status: str | None = None
    block_number: str = msgspec.field(name="blockNumber")
    logs: tuple[_Log, ...] = ()


class _Block(Struct, frozen=True):
    timestamp: str


class _Transaction(Struct, frozen=True, kw_only=True):
    sender: str = msgspec.field(name="from")
    to: str | None = None
    value: str
    input: str = "0x"
    chain_id: str | None = msgspec.field(name="chainId", default=None)


class _Refused(Exception):
    """The payment is no good; the reason is for the user."""


class _Pending(Exception):
    pass


class LedgerCheck:
    """Implements application.ports.funding.FundingCheck."""

    name = "ledger"
    carries = False
    blockchain = ETHEREUM

    def __init__(self, settings: Funding, now: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        """now: Unix time in microseconds."""
        self._settings, self._now = settings, now
        self._token = settings.token_address.casefold()
        self._decimals = settings.token_decimals if self._token else NATIVE_DECIMALS
        self._rpc = EthereumRpc(settings.rpc_url)

    async def close(self) -> None:
        await self._rpc.close()

    async def check(self, claim: PaymentClaim) -> FundingVerdict:
        return await self._checked(claim, new=True)

    async def _checked(self, claim: PaymentClaim, *, new: bool) -> FundingVerdict:
        """new: whether it is to pay for a job; else it has, and is only to stand still."""
        try:
            return await self._look_up(claim, new=new)
        except _Refused as refused:
            return FundingVerdict(state=FundingState.REFUSED, reason=str(refused))
        except _Pending as pending:
            return FundingVerdict(state=FundingState.PENDING, reason=str(pending))

    async def _look_up(self, claim: PaymentClaim, *, new: bool) -> FundingVerdict:
        tx_hash, payee, price = _hash(claim.tx_hash), _payee(claim), amount(claim.price)
        await self._check_chain()
        receipt = await self._receipt(tx_hash)
        found = await self._rpc.call("eth_getTransactionByHash", tx_hash)
        transaction: _Transaction | None = _read(_Transaction, found)
        if transaction is None:
            raise _Pending(f"transaction {tx_hash} is not known to the chain yet")
        if transaction.chain_id is not None and _number(transaction.chain_id) != self._settings.chain_id:
            raise _Refused(
                f"transaction {tx_hash} is of chain {_number(transaction.chain_id)}, not {self._settings.chain_id}"
            )
        block = _number(receipt.block_number)
        self._check_terms(tx_hash, transaction, claim, required=new and self._settings.require_terms)
        owed = to_units(price, self._decimals)
        sums = self._sums(receipt, transaction, payee, least=min(owed, 1))
        paid = sum(sums.values())
        if not sums:
            raise _Refused(f"transaction {tx_hash} pays nothing to the provider's address {claim.payee}{self._in}")
        if paid < owed:
            raise _Refused(
                f"transaction {tx_hash} pays {from_units(paid, self._decimals)} NTX, the job costs {claim.price} NTX"
            )
        if is_address_of(ETHEREUM, claim.payer) and claim.payer.casefold() not in sums:
            # Who paid is not said: it may be somebody else's address, in a job that is not theirs.
            raise _Refused(f"transaction {tx_hash} was paid by another address than {claim.payer}")
        if new:
            await self._check_age(tx_hash, receipt.block_number)
        await self._check_depth(tx_hash, block)
        payer = min(sums, key=lambda address: (-sums[address], address))  # who paid most
        return FundingVerdict(state=FundingState.ACCEPTED, payer=payer, units=str(paid), block=block)

    @property
    def _in(self) -> str:
        return f" in the token {self._settings.token_address}" if self._token else ""

    async def _check_chain(self) -> None:
        """A node of another chain is the operator's mistake and not the payer's: nothing is refused for it."""
        found = _number(await self._rpc.call("eth_chainId"))
        if found != self._settings.chain_id:
            raise Unavailable(f"the node is on chain {found}, but funding.chain_id is {self._settings.chain_id}")

    async def _receipt(self, tx_hash: str) -> _Receipt:
        receipt: _Receipt | None = _read(_Receipt, await self._rpc.call("eth_getTransactionReceipt", tx_hash))
        if receipt is None:
            raise _Pending(f"transaction {tx_hash} is in no block of the chain yet")
        if receipt.status is None:
            raise _Refused(f"transaction {tx_hash} is of a time before receipts had a status")
        if _number(receipt.status) != 1:
            raise _Refused(f"transaction {tx_hash} failed on the chain")
        return receipt

    async def _check_age(self, tx_hash: str, block_number: str) -> None:
        """Else whatever was ever paid to the provider would pay for a job."""
        block: _Block | None = _read(_Block, await self._rpc.call("eth_getBlockByNumber", block_number, False))
        if block is None:
            raise _Pending(f"transaction {tx_hash} is in a block that the chain's node does not have just now")
        days, most = (self._now() / 1_000_000 - _number(block.timestamp)) / 86_400, self._settings.max_payment_age
        if days > most:
            raise _Refused(
                f"transaction {tx_hash} is {days:.1f} days old: one of more than {most:g} days pays for no job here"
            )

    async def _check_depth(self, tx_hash: str, block: int) -> None:
        depth = _number(await self._rpc.call("eth_blockNumber")) - block + 1
        wanted = self._settings.confirmations
        if depth < wanted:
            raise _Pending(f"transaction {tx_hash} has {max(0, depth)} of {wanted} confirmations")

    def _sums(self, receipt: _Receipt, transaction: _Transaction, payee: str, least: int) -> Mapping[str, int]:
        """Smallest units that the payee got, by who paid. least: of a sum that counts: anybody can have a token tell of
        a Transfer of nothing."""
        if self._token:
            transfers = [found for log in receipt.logs if (found := self._transfer(log)) is not None]
        else:
            to = (transaction.to or "").casefold()
            transfers = [(transaction.sender.casefold(), to, _number(transaction.value))]
        sums: dict[str, int] = {}
        for sender, to, units in transfers:
            if to == payee and units >= least:
                sums[sender] = sums.get(sender, 0) + units
        return sums

    def _transfer(self, log: _Log) -> tuple[str, str, int] | None:
        """(from, to, units) of a Transfer of our token."""
        if log.removed or log.address.casefold() != self._token or len(log.topics) != 3:
            return None
        if log.topics[0].casefold() != TRANSFER:
            return None
        return _address(log.topics[1]), _address(log.topics[2]), _number(log.data)

    def _check_terms(self, tx_hash: str, transaction: _Transaction, claim: PaymentClaim, *, required: bool) -> None:
        """A payment may carry the quote's `metadata_hash` (32 bytes); then it pays for that job only, and
        nobody who sees it on the chain can claim it for another."""
        carried = self._terms_of(transaction)
        if required and not carried:
            raise _Refused(
                f"transaction {tx_hash} carries no hash of the job's terms, and only those that do count here"
            )
        if carried and claim.terms_hash and carried != claim.terms_hash.casefold():
            raise _Refused(f"transaction {tx_hash} carries the hash of other terms than this job's")

    def _terms_of(self, transaction: _Transaction) -> str:
        """The hash that it carries, 64 hex digits; empty for none."""
        data = transaction.input.removeprefix("0x").casefold()
        begin = 2 * CALL_BYTES.get(data[:8], len(data)) if self._token else 0
        return data[begin:] if len(data) - begin == 64 else ""

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[Repayment]:
        """Of the chain's own coin nothing can be found by its payer: only logs are indexed."""
        units = to_units(amount(owed), self._decimals)
        if units == 0:
            verdict = await self._checked(claim, new=False)
            return [Repayment(tx_hash=claim.tx_hash)] if verdict.state is FundingState.ACCEPTED else []
        if not self._token or not (is_address_of(ETHEREUM, claim.payee) and is_address_of(ETHEREUM, claim.payer)):
            return []
        await self._check_chain()
        topics = [TRANSFER, _topic(claim.payee), _topic(claim.payer)]
        logs = await self._logs(topics, after_block)
        found = [(log.transaction_hash, t) for log in logs if (t := self._transfer(log)) is not None]
        pair = (claim.payee.casefold(), claim.payer.casefold())
        return [
            Repayment(tx_hash=tx_hash, excess_units=paid - units)
            for tx_hash, (sender, to, paid) in found
            if (sender, to) == pair and paid >= units
        ]

    async def _logs(self, topics: Sequence[str], first: int) -> Sequence[_Log]:
        """Of our token, from that block on, oldest first. In one call where the node does that; public ones refuse
        long ranges, each at a length of its own, so those are halved until it gives them."""
        with suppress(CallRefused):
            return await self._logs_of(topics, first, "latest")
        last, calls, found = _number(await self._rpc.call("eth_blockNumber")), 0, list[_Log]()
        span = max(LEAST_SPAN_BLOCKS, (last - first + 2) // 2)
        while first <= last:
            if calls == MOST_LOG_CALLS:
                raise Unavailable(
                    f"the chain's node gives the logs of {span} blocks at once, of {last - first} to look at"
                )
            calls += 1
            try:
                found += await self._logs_of(topics, first, hex(min(last, first + span - 1)))
                first += span
            except CallRefused:
                if span == LEAST_SPAN_BLOCKS:
                    raise
                span = max(LEAST_SPAN_BLOCKS, (span + 1) // 2)
        return found

    async def _logs_of(self, topics: Sequence[str], first: int, last: str) -> Sequence[_Log]:
        wanted = {
            "address": self._settings.token_address,
            "fromBlock": hex(first),
            "toBlock": last,
            "topics": topics,
        }
        return _read(tuple[_Log, ...], await self._rpc.call("eth_getLogs", wanted)) or ()


def _hash(text: str) -> str:
    found = _HASH.fullmatch(text.strip())
    if found is None:
        raise _Refused(f"'{text[:80]}' is not a transaction hash: 64 hex digits are expected")
    return "0x" + found[1].casefold()


def _payee(claim: PaymentClaim) -> str:
    if wrong := other_blockchain(claim.blockchain, ETHEREUM) or other_payee(claim.payee, ETHEREUM):
        raise _Refused(wrong)
    return claim.payee.casefold()


def _read(kind: Any, value: Any) -> Any:
    """The node's answer as that type; None stays None. Raises Unavailable: a node that talks nonsense is as good
    as one that is away."""
    if value is None:
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Unavailable(f"the chain's node answers nonsense: {error}") from error


def _number(text: Any) -> int:
    """Of a hex quantity, or of a word of log data."""
    try:
        if not isinstance(text, str) or not text.startswith("0x") or len(text) > 66:
            raise ValueError(text)
        return int(text, 16)
    except ValueError as error:
        raise Unavailable("the chain's node answers nonsense: a number in hex was expected") from error


def _address(topic: str) -> str:
    return "0x" + topic[-40:].casefold()


def _topic(address: str) -> str:
    return "0x" + address.removeprefix("0x").casefold().rjust(64, "0")
