"""The funding check that looks payments up on an Ethereum chain: native value, or one token's ERC-20 Transfers.

What is looked at: the node serves the configured chain; the transaction succeeded; it is deep enough; it paid the
provider's own address at least the price, in whole smallest units. That a hash pays for one job only is the log's
rule (domain/payment.py). Limits are in docs/rewards.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from dms.adapters.funding.rpc import EthereumRpc
from dms.application.ports.funding import FundingState, FundingVerdict, PaymentClaim
from dms.config import Funding
from dms.domain.reward import amount, from_units, to_units
from dms.domain.wallet import ETHEREUM, blockchain_of
from dms.errors import InvalidInput, Unavailable

NATIVE_DECIMALS = 18
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"  # keccak("Transfer(address,...)")
TOKEN_CALL_BYTES = 4 + 2 * 32  # transfer(address,uint256); what follows it is ours to read
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

    def __init__(self, settings: Funding) -> None:
        self._settings = settings
        self._token = settings.token_address.casefold()
        self._decimals = settings.token_decimals if self._token else NATIVE_DECIMALS
        self._rpc = EthereumRpc(settings.rpc_url)

    async def close(self) -> None:
        await self._rpc.close()

    async def check(self, claim: PaymentClaim) -> FundingVerdict:
        try:
            return await self._look_up(claim)
        except _Refused as refused:
            return FundingVerdict(state=FundingState.REFUSED, reason=str(refused))
        except _Pending as pending:
            return FundingVerdict(state=FundingState.PENDING, reason=str(pending))

    async def _look_up(self, claim: PaymentClaim) -> FundingVerdict:
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
        self._check_terms(tx_hash, transaction, claim)
        payers, paid = self._paid(receipt, transaction, payee)
        owed = to_units(price, self._decimals)
        if not payers:
            raise _Refused(f"transaction {tx_hash} pays nothing to the provider's address {claim.payee}{self._in}")
        if paid < owed:
            raise _Refused(
                f"transaction {tx_hash} pays {from_units(paid, self._decimals)} NTX, the job costs {claim.price} NTX"
            )
        if _is_ethereum(claim.payer) and claim.payer.casefold() not in payers:
            # Who paid is not said: it may be somebody else's address, in a job that is not theirs.
            raise _Refused(f"transaction {tx_hash} was paid by another address than {claim.payer}")
        await self._check_depth(tx_hash, block)
        return FundingVerdict(state=FundingState.ACCEPTED, payer=min(payers), units=str(paid), block=block)

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

    async def _check_depth(self, tx_hash: str, block: int) -> None:
        depth = _number(await self._rpc.call("eth_blockNumber")) - block + 1
        wanted = self._settings.confirmations
        if depth < wanted:
            raise _Pending(f"transaction {tx_hash} has {max(0, depth)} of {wanted} confirmations")

    def _paid(self, receipt: _Receipt, transaction: _Transaction, payee: str) -> tuple[set[str], int]:
        """(who paid the payee, how many smallest units in all)."""
        if not self._token:
            if (transaction.to or "").casefold() != payee:
                return set(), 0
            return {transaction.sender.casefold()}, _number(transaction.value)
        transfers = [t for log in receipt.logs if (t := self._transfer(log)) is not None and t[1] == payee]
        return {sender for sender, _, _ in transfers}, sum(units for _, _, units in transfers)

    def _transfer(self, log: _Log) -> tuple[str, str, int] | None:
        """(from, to, units) of a Transfer of our token."""
        if log.removed or log.address.casefold() != self._token or len(log.topics) != 3:
            return None
        if log.topics[0].casefold() != TRANSFER:
            return None
        return _address(log.topics[1]), _address(log.topics[2]), _number(log.data)

    def _check_terms(self, tx_hash: str, transaction: _Transaction, claim: PaymentClaim) -> None:
        """A payment may carry the quote's `metadata_hash` (32 bytes); then it pays for that job only, and
        nobody who sees it on the chain can claim it for another."""
        data = transaction.input.removeprefix("0x")[2 * TOKEN_CALL_BYTES if self._token else 0 :]
        if len(data) == 64 and claim.terms_hash and data.casefold() != claim.terms_hash.casefold():
            raise _Refused(f"transaction {tx_hash} carries the hash of other terms than this job's")

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[str]:
        """Of the chain's own coin nothing can be found by its payer: only logs are indexed."""
        units = to_units(amount(owed), self._decimals)
        if units == 0:
            verdict = await self.check(claim)
            return [claim.tx_hash] if verdict.state is FundingState.ACCEPTED else []
        if not self._token or not (_is_ethereum(claim.payee) and _is_ethereum(claim.payer)):
            return []
        await self._check_chain()
        wanted = {
            "address": self._settings.token_address,
            "fromBlock": hex(after_block),
            "toBlock": "latest",
            "topics": [TRANSFER, _topic(claim.payee), _topic(claim.payer)],
        }
        logs = _read(tuple[_Log, ...], await self._rpc.call("eth_getLogs", wanted)) or ()
        found = [(log.transaction_hash, t) for log in logs if (t := self._transfer(log)) is not None]
        pair = (claim.payee.casefold(), claim.payer.casefold())
        return [tx_hash for tx_hash, (sender, to, paid) in found if (sender, to) == pair and paid >= units]


def _hash(text: str) -> str:
    found = _HASH.fullmatch(text.strip())
    if found is None:
        raise _Refused(f"'{text[:80]}' is not a transaction hash: 64 hex digits are expected")
    return "0x" + found[1].casefold()


def _payee(claim: PaymentClaim) -> str:
    if claim.blockchain and claim.blockchain.casefold() != ETHEREUM.casefold():
        raise _Refused(f"the request is to be paid on {claim.blockchain[:32]}; payments are checked on Ethereum here")
    if not _is_ethereum(claim.payee):
        raise _Refused(f"the provider's payment address '{claim.payee[:64]}' is not one of Ethereum")
    return claim.payee.casefold()


def _is_ethereum(address: str) -> bool:
    try:
        return blockchain_of(address) == ETHEREUM
    except InvalidInput:
        return False


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
