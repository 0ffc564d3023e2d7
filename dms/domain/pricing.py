"""What a job costs. Money is Decimal NTX; on the wire and in events it is a decimal string.

Source of the formula and the rates: the original DMS's estimate (DESIGN: price and funding).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from hashlib import sha256

from msgspec import Struct

from dms.domain.request import Constraints
from dms.errors import InvalidInput

RATES = {
    "low": Decimal("0.00008"),
    "moderate": Decimal("0.00016"),
    "high": Decimal("0.00032"),
}  # NTX a minute
POWER_RATE = Decimal("0.00016")  # NTX a watt and minute
_ROOM = Context(prec=64)  # for the largest price of any policy, to its last place
CENT = Decimal("0.00000001")  # prices are kept to 8 places

OUTCOMES = ("metadata", "withdraw", "refund", "distribute_50", "distribute_75")


class Tariff(Struct, frozen=True, kw_only=True):
    """What prices are made from. rates: NTX a minute by complexity; watt_price: NTX a watt and minute;
    provider_price_factor: on the provider's own price a minute."""

    rates: Mapping[str, Decimal]
    watt_price: Decimal
    provider_price_factor: Decimal = Decimal(1)


TARIFF = Tariff(rates=RATES, watt_price=POWER_RATE)


def estimate(constraints: Constraints, tariff: Tariff = TARIFF) -> Decimal:
    """NTX for the whole time asked for. Raises InvalidInput on an unknown complexity."""
    rate = tariff.rates.get(constraints.complexity.casefold())
    if rate is None:
        message = f"unknown complexity '{constraints.complexity}'; one of Low, Moderate, High"
        raise InvalidInput(message, [("/constraints/complexity", message)])
    minutes = constraints.time
    return rate * minutes + tariff.watt_price * constraints.power * minutes


def quote(constraints: Constraints, ntx_price: Decimal, tariff: Tariff = TARIFF) -> Decimal:
    """The larger of our estimate and the provider's own price a minute times the minutes."""
    asked = ntx_price * tariff.provider_price_factor * constraints.time
    return max(estimate(constraints, tariff), asked).quantize(CENT, ROUND_HALF_EVEN, _ROOM)


def price_text(price: Decimal) -> str:
    """Plain decimal text without an exponent or trailing zeros: 0.02728."""
    text = format(price, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def terms(job_id: str, provider: str, service_provider: str, price: Decimal, minutes: int) -> str:
    """The canonical text of a quote, which the oracle signs (`oracle_message`)."""
    fields = {
        "job_id": job_id,
        "compute_provider": provider,
        "service_provider": service_provider,
        "estimated_price": price_text(price),
        "minutes": minutes,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def outcome_hashes(canonical_terms: str) -> dict[str, str]:
    """`<outcome>_hash` -> sha256 (hex) of that outcome's terms."""
    return {f"{name}_hash": sha256(f"{name}:{canonical_terms}".encode()).hexdigest() for name in OUTCOMES}
