"""Whether a payment is good."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class PaymentClaim(Struct, frozen=True, kw_only=True):
    """What a payment must have done to be good. price: NTX, decimal text. payee: the compute provider's
    payment address. payer: the address that the requester says is its own; empty, or one of another
    blockchain, for any. terms_hash: sha256 (hex) that binds a payment which carries it to this job alone."""

    job_id: str
    tx_hash: str
    price: str
    payee: str
    blockchain: str = ""  # as the request names it; empty for any
    payer: str = ""
    terms_hash: str = ""


class FundingState(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"  # for good: it will never pay for this job
    PENDING = "pending"  # can't be told yet: not seen, or not deep enough in the chain


class FundingVerdict(Struct, frozen=True, kw_only=True):
    """reason: why it was not accepted. payer, units, block: what the chain has of an accepted one."""

    state: FundingState
    reason: str = ""
    payer: str = ""
    units: str = ""
    block: int = 0


class Repayment(Struct, frozen=True, kw_only=True):
    """excess_units: beyond what is owed, in whole smallest units; 0: it is just that."""

    tx_hash: str
    excess_units: int = 0


class FundingCheck(Protocol):
    """Whether a reported payment is good. Raises Unavailable when that can't be told now. Texts of
    verdicts and errors hold no secrets. carries: whether a payment that it accepts can go to another provider than the
    one that was quoted; not where it was paid to that one's own address. blockchain: the only one on which a payment
    can be good; empty for any."""

    name: str
    carries: bool
    blockchain: str

    async def check(self, claim: PaymentClaim) -> FundingVerdict: ...

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[Repayment]:
        """Transactions by which the payee gave the payer at least that much (NTX, decimal text) in one sum, oldest
        first; for 0, the payment itself when it still stands."""

    async def close(self) -> None: ...
