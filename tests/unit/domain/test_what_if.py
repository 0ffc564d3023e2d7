"""What another policy would have decided: the same functions, on what the log knew."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import jsonschema
import msgspec
import pytest

from dms.domain.device import Device
from dms.domain.directory import Offering, Provider
from dms.domain.event import Event, Recorded, new_id
from dms.domain.job import Job
from dms.domain.matching import match
from dms.domain.policy import Policy, read_policy
from dms.domain.pricing import price_text
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources
from dms.domain.what_if import Findings, WhatIf
from dms.errors import InvalidInput
from ops.schemas import schemas
from tests.fixtures.histories import request


def offering(ntx_price: str = "0", cpu_mhz: int = 4000) -> Offering:
    return Offering(
        channel="nunet-test", online=True, onboarded=True, ntx_price=ntx_price,
        offered=Resources(cpu_mhz=cpu_mhz, memory_mb=8000),
    )  # fmt: skip


class Past:
    """A history in the making."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []

    def add(self, stream: str, event: Event) -> None:
        position = len(self.events) + 1
        self.events.append(
            Recorded(position, stream, 1, event.TOPIC, 1, position, b"", b"", b"", "", b"{}", b"", event)
        )

    def advertised(self, **prices: str) -> None:
        for peer_id, price in prices.items():
            self.add(f"provider-{peer_id}", Provider.Advertised(offering=offering(price)))

    def requested(self, provider: str, price: str, asked: ServiceRequest | None = None) -> str:
        job_id = new_id()
        event = Job.ServiceRequested(request=asked or request(), provider=provider, price=price, expires_at=2**50)
        self.add(f"job-{job_id}", event)
        return job_id

    def under(self, **policy: Any) -> Findings:
        found = WhatIf(read_policy(json.dumps(policy).encode()), 10)
        found.take(self.events)
        return found.findings()


@pytest.fixture
def past() -> Past:
    """One job, at the cheapest of three."""
    past = Past()
    past.advertised(a="1", b="2", c="3")
    past.requested("a", "1")
    return past


@pytest.mark.parametrize("seed", range(20))
def test_the_rule_of_the_day_changes_nothing_whoever_answered(seed: int) -> None:
    chance, past = random.Random(seed), Past()
    known: dict[str, Offering] = {}
    for _ in range(100):
        peer_id = chance.choice("abcdefgh")
        if chance.random() < 0.3:
            known[peer_id] = offering(str(chance.randint(0, 3)), chance.choice((500, 4000)))
            past.add(f"provider-{peer_id}", Provider.Advertised(offering=known[peer_id]))
        elif peer_id in known and chance.random() < 0.2:
            del known[peer_id]
            past.add(f"provider-{peer_id}", Provider.Lost())
        asked = request(max_ntx=chance.choice((0.5, 2, 100)), time=chance.randint(1, 3))
        answering = set(chance.sample("abcdefgh", 5))
        able = [c for c in match(asked, known.items(), "nunet-test").candidates if c.peer_id in answering]
        if able:
            chosen = chance.choice([c for c in able if c.price == able[0].price])  # the nearest of the cheapest
            past.requested(chosen.peer_id, price_text(chosen.price), asked)
    found = past.under()
    assert found.jobs == found.compared > 20
    assert (found.placed_elsewhere, found.not_placed, found.priced_differently, found.changes) == (0, 0, 0, ())
    assert found.price == found.would_price


def test_an_excluded_provider_loses_the_job_to_the_next_one(past: Past) -> None:
    found = past.under(excluded_providers=["a"])
    (change,) = found.changes
    assert (change.would_provider, change.would_price, change.why) == ("b", "2", "a is excluded")
    assert (found.placed_elsewhere, found.priced_differently, found.price, found.would_price) == (1, 1, "1", "2")


def test_with_everybody_excluded_it_is_not_placed(past: Past) -> None:
    found = past.under(excluded_providers=["a", "b", "c"])
    assert (found.not_placed, found.would_price, found.changes[0].would_provider) == (1, "0", "")


def test_other_rates_change_the_price_and_not_the_place(past: Past) -> None:
    found = past.under(rates={"low": "1.5"}, watt_price="0.01")
    (change,) = found.changes
    assert (change.would_provider, change.would_price) == ("a", "3.2")  # 1.5 + 0.01 x 170, for a minute


def test_a_price_above_the_maximum_is_not_placed() -> None:
    past = Past()
    past.advertised(a="1")
    past.requested("a", "1", request(max_ntx=2))
    (change,) = past.under(provider_price_factor="3").changes
    assert change.would_provider == ""
    assert change.why == "a costs 3.00000000 NTX, above the maximum of 2"


def test_the_factor_is_on_the_providers_own_price(past: Past) -> None:
    assert past.under(provider_price_factor="0.5").changes[0].would_price == "0.5"


def test_by_distance_the_nearest_gets_it(past: Past) -> None:
    (change,) = past.under(rank_by="rtt", round_trip_ms={"a": 20, "c": 4}).changes
    assert (change.would_provider, change.would_price, change.why) == ("c", "3", "c is nearer")
    assert past.under(rank_by="rtt").placed_elsewhere == 0  # nobody's distance is known


def test_a_provider_that_had_not_answered_gets_nothing() -> None:
    past = Past()
    past.advertised(a="1", b="2", c="3")
    past.requested("b", "2")
    assert past.under(excluded_providers=["b"]).changes[0].would_provider == "c"


def test_a_named_or_default_provider_stays_the_only_choice() -> None:
    past = Past()
    past.advertised(a="1", b="2")
    past.requested("b", "2", request(node_id="b"))
    past.add("device-x", Device.DefaultProviderChanged(peer_id="b"))
    past.requested("b", "2")
    found = past.under(excluded_providers=["b"])
    assert (found.compared, found.not_placed) == (2, 2)


def test_what_the_log_does_not_explain_is_counted_and_left_out(past: Past) -> None:
    past.requested("nobody", "1")
    past.requested("a", "7")
    found = past.under(excluded_providers=["a"])
    assert (found.jobs, found.compared, found.unexplained) == (3, 1, 2)


def test_a_provider_counts_as_the_log_knew_it_then(past: Past) -> None:
    past.add("provider-b", Provider.Withdrawn())
    past.requested("a", "1")
    assert [c.would_provider for c in past.under(excluded_providers=["a"]).changes] == ["b", "c"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        {"rates": {"low": "-1"}}, {"rates": {"extreme": "1"}}, {"watt_price": "1e3"}, {"rank_by": "luck"},
        {"provider_price_factor": 2}, {"round_trip_ms": {"a": -1}}, {"colour": "red"}, [],
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused_by_the_code_and_by_the_schema(body: Any) -> None:
    with pytest.raises(InvalidInput, match="this is not a policy"):
        read_policy(json.dumps(body).encode())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schemas()["policy.json"])


def test_a_policy_that_names_nothing_is_the_rule_of_the_day() -> None:
    jsonschema.validate({}, schemas()["policy.json"])
    tariff = Policy().rule().tariff
    assert tariff.rates["low"] == Decimal("0.00008")
    assert msgspec.json.encode(Policy()) == b"{}"
