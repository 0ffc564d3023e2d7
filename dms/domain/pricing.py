"""What a job costs. Money is Decimal NTX; on the wire and in events it is a decimal string.

Source of the formula and the rates: the original DMS's estimate (DESIGN: price and funding).
"""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import sha256

from dms.domain.request import Constraints
from dms.errors import InvalidInput

RATES = {
    "low": Decimal("0.00008"),
    "moderate": Decimal("0.00016"),
    "high": Decimal("0.00032"),
}  # NTX a minute
POWER_RATE = Decimal("0.00016")  # NTX a watt and minute
CENT = Decimal("0.00000001")  # prices are kept to 8 places

OUTCOMES = ("metadata", "withdraw", "refund", "distribute_50", "distribute_75")


def estimate(constraints: Constraints) -> Decimal:
    """NTX for the whole time asked for. Raises InvalidInput on an unknown complexity."""
    rate = RATES.get(constraints.complexity.casefold())
    if rate is None:
        message = f"unknown complexity '{constraints.complexity}'; one of Low, Moderate, High"
        raise InvalidInput(message, [("/constraints/complexity", message)])
    minutes = constraints.time
    return rate * minutes + POWER_RATE * constraints.power * minutes


def quote(constraints: Constraints, ntx_price: Decimal) -> Decimal:
    """The larger of our estimate and the provider's own price a minute times the minutes."""
    return max(estimate(constraints), ntx_price * constraints.time).quantize(CENT, ROUND_HALF_EVEN)


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
