"""What a job costs, to the last place."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dms.domain.pricing import Tariff, estimate, price_text, quote
from dms.domain.request import Constraints
from dms.errors import InvalidInput


def asked(complexity: str = "Low", power: int = 100, minutes: int = 10) -> Constraints:
    return Constraints(complexity=complexity, cpu=1, ram=1, power=power, time=minutes)


@pytest.mark.parametrize(
    ("constraints", "price"),
    [
        (asked("Low"), "0.1608"),
        (asked("MODERATE"), "0.1616"),
        (asked("high"), "0.1632"),
        (asked(power=0), "0.0008"),
        (asked(power=1), "0.0024"),
        (asked(minutes=1), "0.01608"),
    ],
)
def test_an_estimate_grows_with_each_minute_and_watt(constraints: Constraints, price: str) -> None:
    assert estimate(constraints) == Decimal(price)


def test_a_complexity_that_nobody_knows_is_named_by_its_field() -> None:
    with pytest.raises(InvalidInput, match=r"^unknown complexity 'Extreme'; one of Low, Moderate, High$") as refused:
        estimate(asked("Extreme"))
    assert [pointer for pointer, _ in refused.value.problems] == ["/constraints/complexity"]


TARIFF = Tariff(rates={"low": Decimal(2)}, watt_price=Decimal(3), provider_price_factor=Decimal(10))
DEAR = Tariff(rates={"low": Decimal(0)}, watt_price=Decimal(0), provider_price_factor=Decimal(10) ** 21)


@pytest.mark.parametrize(
    ("constraints", "a_minute", "tariff", "price"),
    [
        (asked(power=0, minutes=10), "0.00001", None, "0.0008"),  # ours is larger
        (asked(power=0, minutes=10), "0.1", None, "1"),
        (asked(power=1, minutes=2), "0", TARIFF, "10"),
        (asked(power=1, minutes=2), "1", TARIFF, "20"),
        (asked(power=0, minutes=1), "0.123456785", None, "0.12345678"),  # half to even, at the eighth place
        (asked(power=0, minutes=1), "0.123456795", None, "0.1234568"),
        (asked(minutes=10), "1000000", DEAR, "10000000000000000000000000000"),
        (asked(minutes=5_256_000), "999999.99999999", None, "5255999999999.94744"),  # the largest that there can be
    ],
)
def test_a_quote_is_the_larger_price_at_eight_places(
    constraints: Constraints, a_minute: str, tariff: Tariff | None, price: str
) -> None:
    found = quote(constraints, Decimal(a_minute)) if tariff is None else quote(constraints, Decimal(a_minute), tariff)
    assert price_text(found) == price
    assert found.as_tuple().exponent == -8


@pytest.mark.parametrize(
    ("price", "text"), [("1.50", "1.5"), ("100", "100"), ("1E+3", "1000"), ("100.00", "100"), ("1E-8", "0.00000001")]
)
def test_a_price_is_told_without_exponent_or_trailing_zeros(price: str, text: str) -> None:
    assert price_text(Decimal(price)) == text
