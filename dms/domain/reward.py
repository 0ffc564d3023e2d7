"""Who gets what of a job's price once it is over. Pure, so both sides compute the same from their own events.

The rule and its reasons are in docs/rewards.md. Source of the kinds, and of the evidence that the rule agrees
with: the original's contract (`withdraw` 55 of 60 minutes without errors, `refund` 1 with errors, `distribute` 45).
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from msgspec import Struct

from dms.errors import InvalidInput

PLACES = 8  # of a price in NTX
LARGEST_PRICE = Decimal(10) ** 15
_EXPONENTS = range(-64, 65)  # of its last digit: `1e-999999999` is short, and as a fraction fills the memory
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
        return _PERCENT[self]

    @property
    def redeemer(self) -> int:
        """The number of the action in the original's contract."""
        return {"withdraw": 0, "refund": 1}.get(self.value, 2)

    @property
    def settled_as(self) -> str:
        """What a transaction is called once the chain shows that it was paid out."""
        return {"withdraw": "withdrawn", "refund": "refunded"}.get(self.value, "distributed")


_PERCENT = {
    RewardType.WITHDRAW: 100,
    RewardType.REFUND: 0,
    RewardType.DISTRIBUTE_50: 50,
    RewardType.DISTRIBUTE_75: 75,
}


class Fault(StrEnum):
    """Whose fault an end was."""

    NONE = ""
    REQUESTER = "requester"  # what was asked for can't work: no such image, command, time, memory
    PROVIDER = "provider"  # the provider or its engine failed
    JOB = "job"  # the container itself ended with an error
    NETWORK = "network"

    @property
    def of_provider(self) -> bool:
        """Whether the service provider gets its money back for it."""
        return self in (Fault.PROVIDER, Fault.NETWORK)


class Outcome(Struct, frozen=True, kw_only=True, gc=False):
    """How a job ended. completed: its container ended by itself with exit code 0, and not for want of memory.
    provider_fault: the compute provider, its engine or its line failed. duration_seconds: of the container."""

    completed: bool = False
    provider_fault: bool = False
    duration_seconds: float = 0.0


class Reward(Struct, frozen=True, kw_only=True, gc=False):
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
    seconds = Decimal(str(min(LONGEST_SECONDS, max(0.0, outcome.duration_seconds))))
    asked = 60 * max(1, minutes)
    if _is_at_least(seconds, ENOUGH, asked):
        return RewardType.DISTRIBUTE_75
    return RewardType.DISTRIBUTE_50 if _is_at_least(seconds, HALF, asked) else RewardType.REFUND


def _is_at_least(seconds: Decimal, share: Fraction, asked: int) -> bool:
    """Whether it is that share of the seconds asked for. In whole numbers: exact, and each view computes it for each
    job that ended."""
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * share.denominator >= asked * share.numerator * denominator


def reward(price: str, minutes: int, outcome: Outcome) -> Reward:
    """price: NTX for the whole time, decimal text as in the events. Raises InvalidInput when it is not an amount."""
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
        raise InvalidInput(f"'{text[:64]}' is not an amount of NTX") from error
    if not value.is_finite() or not 0 <= value <= LARGEST_PRICE:
        raise InvalidInput(f"'{text[:64]}' is not an amount of NTX: 0 to 10^15 is expected")
    if value.as_tuple().exponent not in _EXPONENTS:
        raise InvalidInput(f"'{text[:64]}' is not an amount of NTX: it has more places than one can have")
    numerator, denominator = value.as_integer_ratio()
    if numerator * 10**PLACES % denominator:
        raise InvalidInput(f"'{text[:64]}' NTX has more than {PLACES} places")
    return value


def to_units(value: Decimal, decimals: int) -> int:
    """The fewest whole smallest units (10^-decimals) that are worth it. Exact: no rounding of digits on the way."""
    numerator, denominator = value.as_integer_ratio()
    return -(-numerator * int(10**decimals) // denominator)  # rounded up


def from_units(units: int, decimals: int) -> str:
    """Plain decimal text without trailing zeros."""
    whole, part = divmod(units, 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0") if decimals else ""
    return f"{whole}.{digits}" if digits else str(whole)
