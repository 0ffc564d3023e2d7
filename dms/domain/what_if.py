"""Which jobs another policy would have placed or priced differently. Pure: the log's events in, findings out.

Each request is decided again by the same functions that decided it (`matching`, `pricing`), on the providers that the
log knew at that position, and by itself: a job that would have gone elsewhere does not change what is free later.
Requests that no provider could take were never jobs, so a policy that would have placed them is not credited.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.device import Device
from dms.domain.directory import Offering, Provider
from dms.domain.event import AnyFact
from dms.domain.features import INTERNET
from dms.domain.job import Job
from dms.domain.matching import Candidate, match, rank
from dms.domain.offers import Offers
from dms.domain.policy import Policy
from dms.domain.pricing import price_text
from dms.errors import InvalidInput

FARTHER, FARTHEST = 1e9, float("inf")  # seconds; of providers whose distance is not known


class Change(Struct, frozen=True, kw_only=True):
    """A job that the policy decides differently. would_provider, would_price: empty when it would not be placed."""

    job_id: str
    position: int
    provider: str
    price: str
    would_provider: str
    would_price: str
    why: str


class Findings(Struct, frozen=True, kw_only=True):
    """jobs: all requests that were quoted. unexplained: decided on something that the log does not hold, so that the
    rule of the day does not give the same on it; left out of the comparison. Prices: sums in NTX over the compared
    jobs, those that would not be placed at nothing. changes: the first ones, as many as were asked for."""

    jobs: int
    compared: int
    unexplained: int
    placed_elsewhere: int
    not_placed: int
    priced_differently: int
    price: str
    would_price: str
    changes: tuple[Change, ...]


class WhatIf:
    """Takes the events in order. changes_kept: of how many changed jobs the details are kept."""

    READS = frozenset(
        (Provider.Advertised, Provider.Withdrawn, Provider.Lost, Device.DefaultProviderChanged, Job.ServiceRequested)
    )
    """Of these it looks into the bodies."""

    def __init__(self, policy: Policy, changes_kept: int) -> None:
        self._rule, self._kept = policy.rule(), changes_kept
        self._seconds = {peer_id: ms / 1000 for peer_id, ms in policy.round_trip_ms.items()}
        self._offerings = Offers()
        self._default = ""
        self._jobs = self._compared = self._elsewhere = self._nowhere = self._priced = 0
        self._price = self._would_price = Decimal(0)
        self._changes: list[Change] = []

    def take(self, events: Sequence[AnyFact]) -> None:
        for recorded in events:
            match recorded.event:
                case Provider.Advertised(offering=offering):
                    self._offerings.put(recorded.key, _with_network(offering))
                case Provider.Withdrawn() | Provider.Lost():
                    self._offerings.drop(recorded.key)
                case Device.DefaultProviderChanged(peer_id=peer_id):
                    self._default = peer_id
                case Job.ServiceRequested() as requested:
                    self._jobs += 1
                    self._decide(recorded, requested)

    def findings(self) -> Findings:
        return Findings(
            jobs=self._jobs,
            compared=self._compared,
            unexplained=self._jobs - self._compared,
            placed_elsewhere=self._elsewhere,
            not_placed=self._nowhere,
            priced_differently=self._priced,
            price=price_text(self._price),
            would_price=price_text(self._would_price),
            changes=tuple(self._changes),
        )

    def _decide(self, recorded: AnyFact, event: Job.ServiceRequested) -> None:
        known = self._offerings.get(event.provider)
        if known is None:
            return
        offering = known.offering
        request, target = event.request, event.request.params.node_id or self._default
        try:
            then = match(request, self._offerings, offering.channel, target)
        except InvalidInput:
            return  # a word that only another version knew
        chosen = next((c for c in then.candidates if c.peer_id == event.provider), None)
        if chosen is None or price_text(chosen.price) != event.price:
            return
        # What stood before the chosen one and did not get the job was not reached.
        silent = {c.peer_id for c in then.candidates if c.price < chosen.price}
        now = match(request, self._offerings, offering.channel, target, self._rule)
        able = [c for c in now.candidates if c.peer_id not in silent]
        best = min(able, key=lambda c: rank(c, self._distance(c.peer_id, event.provider), self._rule), default=None)
        self._count(chosen, best)
        if (best is None or best.peer_id != chosen.peer_id or best.price != chosen.price) and (
            len(self._changes) < self._kept
        ):
            still = next((c for c in able if c.peer_id == chosen.peer_id), None)
            why = self._why(event, offering, best, still)
            self._changes.append(_change(recorded, chosen, best, why))

    def _distance(self, peer_id: str, chosen: str) -> float:
        """Seconds. Of equals the one that was chosen stays: it had answered fastest."""
        return self._seconds.get(peer_id, FARTHER if peer_id == chosen else FARTHEST)

    def _count(self, chosen: Candidate, best: Candidate | None) -> None:
        self._compared += 1
        self._price += chosen.price
        if best is None:
            self._nowhere += 1
            return
        self._would_price += best.price
        self._elsewhere += best.peer_id != chosen.peer_id
        self._priced += best.price != chosen.price

    def _why(
        self, event: Job.ServiceRequested, offering: Offering, best: Candidate | None, still: Candidate | None
    ) -> str:
        if still is None:
            refused = match(event.request, [(event.provider, offering)], offering.channel, "", self._rule).refused
            return f"{event.provider} {refused[0].reason}"
        if best is None or best.peer_id == still.peer_id:
            return f"costs {price_text(still.price)} NTX there"
        if self._rule.rank_by == "rtt":
            return f"{best.peer_id} is nearer"
        if best.price < still.price:
            return f"{best.peer_id} is cheaper: {price_text(still.price)} NTX would be asked by {still.peer_id}"
        return f"{best.peer_id} costs the same and is nearer"


def _with_network(offering: Offering) -> Offering:
    """Before providers told their features, no job was refused for the network that it needs."""
    return offering if offering.features else replace(offering, features=(INTERNET,))


def _change(recorded: AnyFact, chosen: Candidate, best: Candidate | None, why: str) -> Change:
    return Change(
        job_id=recorded.key,
        position=recorded.position,
        provider=chosen.peer_id,
        price=price_text(chosen.price),
        would_provider=best.peer_id if best else "",
        would_price=price_text(best.price) if best else "",
        why=why,
    )
