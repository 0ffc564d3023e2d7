"""The bounds of what peers say: each limit from both sides."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct

from dms.domain.bounds import (
    LARGEST_INT,
    LARGEST_MB,
    LARGEST_NS,
    Unreadable,
    check,
    check_ntx_price,
    ntx_price,
    read,
    tightened,
    time_text,
)
from dms.domain.resources import Resources
from dms.errors import InvalidInput


# --- prices ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("0", True),
        ("1e-40", True),
        ("1e-41", False),
        ("1000000", True),
        ("1000000.1", False),
        ("-0.1", False),
        ("0e40", True),
        ("0e41", False),
        ("NaN", False),
        ("Infinity", False),
        ("cheap", False),
    ],
)
def test_a_price_is_an_amount_that_somebody_may_ask(text: str, fits: bool) -> None:
    assert ntx_price(text) == (Decimal(text) if fits else None)


def test_a_price_of_this_device_s_own_is_refused_by_its_field() -> None:
    check_ntx_price(Decimal(1_000_000))
    with pytest.raises(InvalidInput, match=r"^'ntx-price' must be a positive value$") as caught:
        check_ntx_price(Decimal(-1))
    assert caught.value.problems == (("/ntx_price", "0 to 1000000 NTX a minute"),)


@pytest.mark.parametrize(
    ("price", "said"),
    [("1e9", "'ntx-price' must be at most 1000000 NTX a minute"), ("1e-41", "must have at most 40 decimal places"),
     ("NaN", "must be a positive value"), ("Infinity", "must be a positive value")],
)  # fmt: skip
def test_a_price_that_is_refused_is_refused_for_what_it_is(price: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_ntx_price(Decimal(price))


# --- times -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("time_ns", "shown"),
    [
        (-1, "1970-01-01T00:00:00.000000+00:00"),
        (0, "1970-01-01T00:00:00.000000+00:00"),
        (1_500_000_000, "1970-01-01T00:00:01.500000+00:00"),
        (1_760_000_000_123_456_000, "2025-10-09T08:53:20.123456+00:00"),
        (LARGEST_NS, "2262-04-11T23:47:16.854776+00:00"),
        (2**80, "2262-04-11T23:47:16.854776+00:00"),
    ],
)
def test_a_time_of_any_size_is_shown(time_ns: int, shown: str) -> None:
    assert time_text(time_ns) == shown


def resources(memory_mb: int) -> dict[str, int]:
    """As a peer sends them."""
    return {"cpu_mhz": 0, "memory_mb": memory_mb, "vram_mb": 0}


# --- the bound of each kind of value -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "fits", "too_much"),
    [
        (int, 0, -1),
        (int, LARGEST_INT, LARGEST_INT + 1),
        (float, 0.0, -0.5),
        (float, 1e15, 1.1e15),
        (str, "x" * 16_384, "x" * 16_385),
        (tuple[str, ...], ["x"] * 100_000, ["x"] * 100_001),
        (list[bool], [True] * 100_000, [True] * 100_001),
        (dict[str, bool], {str(n): True for n in range(1000)}, {str(n): True for n in range(1001)}),
        # what it says itself goes before, and nothing is taken from the rest
        (Annotated[int, Meta(le=5)], 5, 6),
        (Annotated[int, Meta(le=5)], 0, -1),
        (Annotated[int, Meta(lt=5)], 4, 5),
        (Annotated[int, Meta(gt=-5)], -4, -5),
        (Annotated[int, Meta(ge=-5)], LARGEST_INT, LARGEST_INT + 1),
        (Annotated[int, Meta(multiple_of=3)], 9, 10),
        (Annotated[str, Meta(pattern="^a*$")], "a" * 16_384, "a" * 16_385),
        (Annotated[str, Meta(pattern="^a*$")], "a", "b"),
        (Annotated[str, Meta(min_length=2)], "ab", "a"),
        (Annotated[str, Meta(max_length=20_000)], "a" * 20_000, "a" * 20_001),
        (Annotated[int, Meta(le=5), Meta(ge=2)], 2, 1),
        # inside others
        (list[int], [1], [-1]),
        (list[Annotated[int, Meta(le=5)]], [5], [6]),
        (tuple[int, str], [1, "x"], [-1, "x"]),
        (dict[str, int], {"a": 1}, {"a": -1}),
        (dict[str, int], {"a": 1}, {"x" * 16_385: 1}),
        (int | None, None, -1),
        (Annotated[list[int], Meta(max_length=1)], [1], [1, 1]),
        (Annotated[list[int], Meta(max_length=1)], [1], [-1]),
        (Annotated[Resources, Meta(title="of a struct")], resources(1), resources(-1)),
        # by name, from the table
        (Resources, resources(LARGEST_MB), resources(LARGEST_MB + 1)),
        (list[Resources], [resources(LARGEST_MB)], [resources(LARGEST_MB + 1)]),
    ],
)
def test_every_kind_of_value_has_a_bound(kind: Any, fits: Any, too_much: Any) -> None:
    assert msgspec.json.encode(msgspec.convert(fits, tightened(kind))) == msgspec.json.encode(fits)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(too_much, tightened(kind))


def test_what_needs_no_bound_has_none() -> None:
    assert tightened(bool) is bool


# --- messages ----------------------------------------------------------------------------------------
class Inner(Struct, frozen=True):
    count: int


class Message(Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    all_parts: list[Inner] = []
    tries: int = 3


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "x"


class Row(Struct, frozen=True, array_like=True):
    number: int
    name: str


def test_a_message_is_read_into_its_own_struct() -> None:
    body = b'{"name":"a","allParts":[{"count":1}],"tries":2,"new":true}'
    assert read(body, Message) == Message(name="a", all_parts=[Inner(1)], tries=2)
    assert read('{"name":"a"}', Message) == Message(name="a", all_parts=[], tries=3)
    assert read(b'[1,"a"]', Row) == Row(1, "a")


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (b"{", Message, "truncated"),
        (b"{}", Message, "missing required field `name`"),
        (b'{"name":"a","tries":-1}', Message, r"`int` >= 0 - at `\$.tries`"),
        (b'{"name":"a","allParts":[{"count":-1}]}', Message, r"`int` >= 0 - at `\$.allParts\[0\].count`"),
        (b'{"name":"a","other":1}', Strict, "unknown field `other`"),
        (b'[-1,"a"]', Row, "`int` >= 0"),
        (b"[1]", Row, "length 2"),
        (b'{"name":"\xff"}', Strict, "utf-8"),
    ],
)
def test_what_is_no_such_message_is_told_as_such(body: bytes, kind: type[Struct], told: str) -> None:
    with pytest.raises(Unreadable, match=told):
        read(body, kind)


def test_what_was_read_otherwise_is_held_against_the_same_bounds() -> None:
    check(Message(name="a", all_parts=[Inner(1)]))
    with pytest.raises(Unreadable, match=r"`int` >= 0 - at `\$.tries`"):
        check(Message(name="a", tries=-1))
