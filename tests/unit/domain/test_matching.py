"""Matching among many: the same candidates as when all are priced and sorted, without looking at all."""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from dms.domain import matching, offers
from dms.domain.directory import Offering
from dms.domain.matching import REFUSALS_KEPT, RULE, Candidate, Match, Rule, match, needs_of, refusal, search
from dms.domain.offers import Offers
from dms.domain.policy import Policy
from dms.domain.pricing import estimate, quote
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources
from tests.fixtures.histories import request

CHANNEL = "nunet-test"
FLOOR = estimate(request().constraints)


def sorted_in_full(
    asked: ServiceRequest, offerings: list[tuple[str, Offering]], rule: Rule = RULE
) -> tuple[list[Candidate], dict[str, str]]:
    """The plain way: all candidates in order, and why the others are none."""
    needs, candidates, refused = needs_of(asked), [], {}
    for peer_id, offering in offerings:
        if offering.price is None:
            refused[peer_id] = "no price"
            continue
        price = quote(asked.constraints, offering.price, rule.tariff)
        reason = "is excluded" if peer_id in rule.excluded else refusal(needs, offering, CHANNEL, price)
        if reason is None:
            candidates.append(Candidate(peer_id=peer_id, price=price, payee=offering.payment_address))
        else:
            refused[peer_id] = reason
    return sorted(candidates, key=lambda c: (c.price, c.peer_id)), refused


def offering(price: str = "0", cpu: int = 4000, channel: str = CHANNEL, online: bool = True) -> Offering:
    return Offering(
        channel=channel, online=online, onboarded=True, ntx_price=price, payment_address=f"to {price}",
        offered=Resources(cpu_mhz=cpu, memory_mb=8000),
    )  # fmt: skip


def finish(steps: Generator[None, None, Match]) -> Match:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


# Prices at, just below and just above the estimate; some that are alike once rounded; dear ones; and no amounts.
PRICES = (
    "0", "0.0", "-0", "0E+5", "0.01", str(FLOOR), str(FLOOR - Decimal("1e-8")), str(FLOOR + Decimal("1e-8")),
    "1", "1.0", "1.0000000001", "1.0000000002", "1.00000001", "2", "50", "100", "100.00000001",
    "101", "1000000", "1000001", "1e30", "NaN", "-Infinity", "", "x", "1e-39", "1e-41", "9" * 60,
)  # fmt: skip
OFFERINGS = some.builds(
    offering,
    some.sampled_from(PRICES),
    some.sampled_from((4000, 4000, 500)),
    some.sampled_from((CHANNEL, CHANNEL, CHANNEL, "nunet-edge")),
    some.sampled_from((True, True, True, False)),
)
KNOWN = some.dictionaries(some.text("abc", min_size=1, max_size=4), OFFERINGS, max_size=60)


@settings(max_examples=300, deadline=None)
@given(KNOWN, some.integers(0, 20), some.sampled_from((1, 3, 60)), some.sampled_from((FLOOR, 0.0001, 1, 100, 1e15)))
def test_the_same_candidates_as_a_full_sort(known: dict[str, Offering], most: int, time: int, max_ntx: float) -> None:
    asked = request(time=time, max_ntx=float(max_ntx))
    candidates, refused = sorted_in_full(asked, list(known.items()))
    whole, few = match(asked, known.items(), CHANNEL), finish(search(asked, Offers(known.items()), CHANNEL, most=most))
    assert list(whole.candidates) == candidates
    assert list(few.candidates) == candidates[:most]
    assert whole.refused_count == len(refused)
    assert whole.unseen_count == 0
    for found in (whole, few):
        assert len(found.refused) <= min(REFUSALS_KEPT, found.refused_count)
        assert {refusal.peer_id for refusal in found.refused} <= set(refused)
    if most:
        assert few.refused_count + few.unseen_count + len(few.candidates) == len(known)


def test_so_many_that_they_are_walked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_SORTED_AT_ONCE", 2)
    monkeypatch.setattr(offers, "_CHUNK", 3)
    prices = ("0", "1", "0.01", "100.1")
    known = {f"{number:02}": offering(prices[number % 4], 500 if number % 5 == 4 else 4000) for number in range(32)}
    candidates, refused = sorted_in_full(request(), list(known.items()))
    for most in (1, 3, 4, 5, 8, 9, 19, 20, 40):
        found = finish(search(request(), Offers(known.items()), CHANNEL, most=most))
        assert list(found.candidates) == candidates[:most]
        assert found.refused_count + found.unseen_count + len(found.candidates) == len(known)
    assert len(candidates) + len(refused) == len(known)


@settings(max_examples=100, deadline=None)
@given(
    KNOWN,
    some.sampled_from(("0", "0.5", "1000000000000")),
    some.sampled_from(("0", "999999999999")),
    some.sets(some.text("abc", min_size=1, max_size=2)),
)
def test_the_same_candidates_under_any_policy(
    known: dict[str, Offering], factor: str, watt_price: str, excluded: set[str]
) -> None:
    policy = Policy(provider_price_factor=factor, watt_price=watt_price, excluded_providers=tuple(excluded))
    asked = request(max_ntx=1e15, power=1_000_000, time=5_256_000)
    candidates, refused = sorted_in_full(asked, list(known.items()), policy.rule())
    found = match(asked, known.items(), CHANNEL, rule=policy.rule())
    assert (list(found.candidates), found.refused_count) == (candidates, len(refused))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(some.lists(some.tuples(some.text("ab", min_size=1, max_size=2), some.none() | OFFERINGS), max_size=60))
def test_what_comes_and_goes_leaves_what_is_there(changes: list[tuple[str, Offering | None]]) -> None:
    offers, known = Offers(), dict[str, Offering]()
    for peer_id, offered in changes:
        if offered is None:
            offers.drop(peer_id)
            known.pop(peer_id, None)
        else:
            offers.put(peer_id, offered)
            known[peer_id] = offered
    anew = Offers(known.items())
    assert finish(search(request(), offers, CHANNEL)).candidates == match(request(), anew, CHANNEL).candidates
    for channel in (CHANNEL, "nunet-edge"):
        assert offers.ids_of(channel) == sorted(p for p, offered in known.items() if offered.channel == channel)


def test_a_search_goes_on_while_providers_come_and_go() -> None:
    offers = Offers((f"p{number:05}", offering(str(1 + number % 7), cpu=500)) for number in range(3000))
    offers.put("the one", offering("50"))
    steps = search(request(), offers, CHANNEL, most=16)
    for number, _ in enumerate(steps):
        offers.drop(f"p{number:05}")
        offers.put(f"new {number}", offering("3", cpu=500))
        if number == 2:
            break
    assert [c.peer_id for c in finish(steps).candidates] == ["the one"]


def test_among_many_alike_only_a_few_are_looked_at() -> None:
    offers = Offers((f"p{number:05}", offering("2")) for number in range(20_000))
    found = finish(search(request(), offers, CHANNEL, most=16))
    assert [c.peer_id for c in found.candidates] == [f"p{number:05}" for number in range(16)]
    assert (found.refused_count, found.unseen_count) == (0, 20_000 - 16)


@pytest.mark.parametrize("price", ["1e30", "NaN", "Infinity", "-1", "1e400", "text", "٣٣e9999999"])
def test_one_that_can_not_be_priced_is_refused_and_ends_nothing(price: str) -> None:
    found = match(request(), [("a", offering(price)), ("b", offering()), ("c", offering(price, channel="x"))], CHANNEL)
    assert [c.peer_id for c in found.candidates] == ["b"]
    assert {r.peer_id: r.reason for r in found.refused} == {
        "a": "names a price that is not an amount", "c": f"is on channel x, not {CHANNEL}",
    }  # fmt: skip


def test_who_can_not_be_paid_where_payments_are_looked_up_is_no_candidate() -> None:
    addresses = {"a": "", "b": "addr_test1vzpwq95z3xyum8vqndgdd9mdnmafh3djcxnc6jemlgdmswcve6tkw", "c": "0x" + "ab" * 20}
    known = [(peer, msgspec.structs.replace(offering(), payment_address=to)) for peer, to in addresses.items()]
    assert len(match(request(), known, CHANNEL).candidates) == 3
    found = match(request(), known, CHANNEL, rule=Rule(paid_on="Ethereum"))
    assert [candidate.peer_id for candidate in found.candidates] == ["c"]
    assert {refused.reason for refused in found.refused} == {
        "has no payment address of Ethereum, where payments are looked up"
    }


def test_whose_word_has_expired_gets_no_job() -> None:
    offers = Offers()
    offers.put("old", offering(), ends_at=10)
    offers.put("new", offering(), ends_at=11)
    assert [c.peer_id for c in finish(search(request(), offers, CHANNEL, now=10)).candidates] == ["new"]
    offers.put("old", offering(), ends_at=20)  # renewed
    assert [c.peer_id for c in finish(search(request(), offers, CHANNEL, now=11)).candidates] == ["old"]
