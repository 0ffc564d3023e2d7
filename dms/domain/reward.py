"""Who gets what of a job's price once it is over. Pure, so both sides compute the same from their own events.

The rule and its reasons are in docs/rewards.md. Source of the kinds, and of the evidence that the rule agrees
with: the original's contract (`withdraw` 55 of 60 minutes without errors, `refund` 1 with errors, `distribute` 45).
"""

from __future__ import annotations

import math
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from msgspec import Struct

from dms.errors import InvalidInput

PLACES = 8  # of a price in NTX
LARGEST_PRICE = Decimal(10) ** 15
ENOUGH = Fraction(3, 4)  # of the time, for three quarters of the price
LONGEST_SECONDS = 1e12  # a peer's figure may be any float
HALF = Fraction(1, 2)


class RewardType(StrEnum):
    WITHDRAW = "withdraw"  # the compute provider gets the whole price
    REFUND = "refund"  # the service provider gets it back
    DISTRIBUTE_50 = "distribute-50"
    DISTRIBUTE_75 = "distribute-75"

    @property
    def percent(self) -> int:
        """Of the price, for the compute provider."""
        return {"withdraw": 100, "distribute-75": 75, "distribute-50": 50}.get(self.value, 0)

    @property
    def redeemer(self) -> int:
        """The number of the action in the original's contract."""
        return {"withdraw": 0, "refund": 1}.get(self.value, 2)

    @property
    def settled_as(self) -> str:
        """What a transaction is called once the chain shows that it was paid out."""
        return {"withdraw": "withdrawn", "refund": "refunded"}.get(self.value, "distributed")


class Outcome(Struct, frozen=True, kw_only=True):
    """How a job ended. completed: its container ended by itself with exit code 0, and not for want of memory.
    provider_fault: the compute provider, its engine or its line failed. duration_seconds: of the container."""

    completed: bool = False
    provider_fault: bool = False
    duration_seconds: float = 0.0


class Reward(Struct, frozen=True, kw_only=True):
    """Amounts in NTX, decimal text; the shares add up to the price to the last of its 8 places."""

    reward_type: RewardType
    price: str
    to_provider: str
    to_requester: str


def reward_type(outcome: Outcome, minutes: int) -> RewardType:
    """minutes: the time that was asked and paid for."""
    if outcome.completed:
        return RewardType.WITHDRAW
    if outcome.provider_fault:
        return RewardType.REFUND
    seconds = min(LONGEST_SECONDS, max(0.0, outcome.duration_seconds))
    share = Fraction(str(seconds)) / (60 * max(1, minutes))
    if share >= ENOUGH:
        return RewardType.DISTRIBUTE_75
    return RewardType.DISTRIBUTE_50 if share >= HALF else RewardType.REFUND


def reward(price: str, minutes: int, outcome: Outcome) -> Reward:
    """price: NTX for the whole time, decimal text as in the events. Raises InvalidInput when it is no amount."""
    total = to_units(amount(price), PLACES)
    kind = reward_type(outcome, minutes)
    provider, requester = split(total, kind)
    return Reward(
        reward_type=kind,
        price=from_units(total, PLACES),
        to_provider=from_units(provider, PLACES),
        to_requester=from_units(requester, PLACES),
    )


def split(total: int, kind: RewardType) -> tuple[int, int]:
    """(to the compute provider, to the service provider), in whole smallest units. What does not divide
    goes to the service provider, whose money it was."""
    provider = total * kind.percent // 100
    return provider, total - provider


def amount(text: str) -> Decimal:
    """An amount of NTX: 0 to 10^15, at most 8 places. Raises InvalidInput."""
    try:
        value = Decimal(text)
    except ArithmeticError as error:
        raise InvalidInput(f"'{text[:64]}' is no amount of NTX") from error
    if not value.is_finite() or not 0 <= value <= LARGEST_PRICE:
        raise InvalidInput(f"'{text[:64]}' is no amount of NTX: 0 to 10^15 is expected")
    if (Fraction(value) * 10**PLACES).denominator != 1:
        raise InvalidInput(f"'{text[:64]}' NTX has more than {PLACES} places")
    return value


def to_units(value: Decimal, decimals: int) -> int:
    """The fewest whole smallest units (10^-decimals) that are worth it. Exact: no rounding of digits on the way."""
    return math.ceil(Fraction(value) * int(10**decimals))


def from_units(units: int, decimals: int) -> str:
    """Plain decimal text without trailing zeros."""
    whole, part = divmod(units, 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0") if decimals else ""
    return f"{whole}.{digits}" if digits else str(whole)
