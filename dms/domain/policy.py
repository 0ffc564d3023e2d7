"""Another rule of pricing and matching, to be held against history: `nunet replay --with POLICY.json`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from dms.domain.decoding import UNREADABLE
from dms.domain.matching import Rule
from dms.domain.pricing import POWER_RATE, RATES, Tariff
from dms.errors import InvalidInput
from dms.plain_words import located

MOST_BYTES = 1024 * 1024

Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,18})?\Z", description="A decimal number as text")]
PeerId = Annotated[str, Meta(min_length=1, max_length=128)]


class Rates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """NTX a minute by complexity; left out: as it is."""

    low: Amount | None = None
    moderate: Amount | None = None
    high: Amount | None = None


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is left out stays as it is. watt_price: NTX a watt and minute. provider_price_factor: on each provider's own
    price a minute. round_trip_ms: peer id -> distance, which the log does not hold; a provider that is not named
    counts as farther than all that are."""

    rates: Rates = Rates()
    watt_price: Amount | None = None
    provider_price_factor: Amount = "1"
    rank_by: Literal["price", "rtt"] = "price"
    excluded_providers: Annotated[tuple[PeerId, ...], Meta(max_length=10_000)] = ()
    round_trip_ms: Annotated[dict[PeerId, Annotated[float, Meta(ge=0)]], Meta(max_length=10_000)] = {}

    def rule(self) -> Rule:
        named = {"low": self.rates.low, "moderate": self.rates.moderate, "high": self.rates.high}
        rates = {name: Decimal(text) for name, text in named.items() if text is not None}
        tariff = Tariff(
            rates={**RATES, **rates},
            watt_price=POWER_RATE if self.watt_price is None else Decimal(self.watt_price),
            provider_price_factor=Decimal(self.provider_price_factor),
        )
        return Rule(tariff=tariff, rank_by=self.rank_by, excluded=frozenset(self.excluded_providers))


def read_policy(body: bytes) -> Policy:
    """Raises InvalidInput saying what is wrong, and where."""
    if len(body) > MOST_BYTES:
        raise InvalidInput(f"a policy has at most {MOST_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=Policy)
    except UNREADABLE as error:
        pointer, what = located(str(error))
        raise InvalidInput(f"this is not a policy (schemas/policy.json): {pointer}: {what}") from error
