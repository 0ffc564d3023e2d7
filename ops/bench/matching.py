"""Choosing the cheapest 16 of 100,000 known providers, against pricing, refusing and sorting all of them. The same
candidates come out, which is checked. Ours also says how long the loop is held up at most in one piece."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from statistics import median

from dms.domain.directory import Offering
from dms.domain.matching import RULE, Candidate, needs_of, refusal, search
from dms.domain.offers import Offers
from dms.domain.pricing import quote
from dms.domain.request import Constraints, Params, ServiceRequest
from dms.domain.resources import Resources
from ops.bench.report import Row

PROVIDERS = 100_000
MOST = 16
ROUNDS = 5
CHANNEL = "nunet-test"


def run() -> Iterator[Row]:
    chance = random.Random(1)
    known = {f"12D3KooW{chance.getrandbits(220):044x}"[:52]: _offering(chance) for _ in range(PROVIDERS)}
    offers = Offers(known.items())
    for name, request in (("most fit", _request(cpu=500)), ("none fits", _request(cpu=90_000_000))):
        rounds = [_round(request, known, offers) for _ in range(ROUNDS)]
        full, ours, longest = (median(seconds) for seconds in zip(*rounds, strict=True))
        ratio = median(mine / theirs for theirs, mine, _ in rounds)
        said = f"{ours * 1000:.2f} ms, the loop for {longest * 1000:.2f} ms at most"
        target = "<= 0.10" if name == "most fit" else "<= 0.50"
        yield Row(f"16 of {len(known):,} providers, {name}", f"sort all: {full * 1000:.0f} ms", said, ratio, target)


def _round(request: ServiceRequest, known: dict[str, Offering], offers: Offers) -> tuple[float, float, float]:
    """Seconds of the full sort, of ours, and of the longest of our steps."""
    started = time.perf_counter()
    expected = _sorted_in_full(request, known)[:MOST]
    full = time.perf_counter() - started
    steps, ours, longest = search(request, offers, CHANNEL, most=MOST), 0.0, 0.0
    while True:
        started = time.perf_counter()
        try:
            next(steps)
        except StopIteration as done:
            took = time.perf_counter() - started
            if list(done.value.candidates) != expected:
                raise AssertionError("other candidates than the full sort") from None
            return full, ours + took, max(longest, took)
        took = time.perf_counter() - started
        ours, longest = ours + took, max(longest, took)


def _sorted_in_full(request: ServiceRequest, known: dict[str, Offering]) -> list[Candidate]:
    needs, candidates, refused = needs_of(request), [], 0
    for peer_id, offering in known.items():
        if offering.price is None:
            continue
        price = quote(request.constraints, offering.price, RULE.tariff)
        if refusal(needs, offering, CHANNEL, price) is None:
            candidates.append(Candidate(peer_id=peer_id, price=price, payee=offering.payment_address))
        else:
            refused += 1
    candidates.sort(key=lambda candidate: (candidate.price, candidate.peer_id))
    return candidates


def _offering(chance: random.Random) -> Offering:
    free = Resources(cpu_mhz=chance.choice((1000, 4000, 16_000)), memory_mb=chance.choice((1000, 16_000)))
    price = f"{chance.random() ** 3:.6f}" if chance.random() < 0.7 else "0"
    return Offering(
        channel=CHANNEL if chance.random() < 0.8 else "nunet-edge",
        online=chance.random() < 0.9,
        onboarded=True,
        total=free,
        offered=free,
        ntx_price=price,
    )


def _request(cpu: int) -> ServiceRequest:
    return ServiceRequest(
        service_type="ml-training-cpu",
        params=Params(image_id="registry.example/job:1"),
        constraints=Constraints(complexity="Low", cpu=cpu, ram=500, time=60, power=170),
        max_ntx=1000,
    )
