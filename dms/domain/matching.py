"""Which compute providers can take a job. Pure: advertisements in, candidates and refusals out."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Literal

import msgspec
from msgspec import Struct

from dms.domain.directory import Offering
from dms.domain.features import Feature, needed_by
from dms.domain.gpus import GpuWish, fitting
from dms.domain.job import Refusal
from dms.domain.offers import Offers, Row, behind
from dms.domain.pricing import TARIFF, Tariff, quote
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources
from dms.domain.wallet import is_address_of

REFUSALS_KEPT = 20  # recorded with a request; the rest is only counted
_SORTED_AT_ONCE = 2000  # more of them are walked by peer id instead: among so many the first that fit are near
_NO_PRICE = "names a price that is not an amount"


class Candidate(Struct, frozen=True, kw_only=True, gc=False):
    """price: NTX for the whole time. payee: where it wants to be paid."""

    peer_id: str
    price: Decimal
    payee: str = ""


class Needs(Struct, frozen=True, kw_only=True, gc=False):
    """What a request asks of each provider, worked out once. resources: without VRAM, which counts card by card."""

    request: ServiceRequest
    resources: Resources
    wish: GpuWish | None
    max_ntx: Decimal
    features: tuple[Feature, ...] = ()


def needs_of(request: ServiceRequest) -> Needs:
    return Needs(
        request=request,
        resources=msgspec.structs.replace(request.resources, vram_mb=0),
        wish=request.gpu_wish,
        max_ntx=Decimal(str(request.max_ntx)),
        features=needed_by(request),
    )


class Rule(Struct, frozen=True, kw_only=True):
    """How providers are chosen. rank_by: what decides between those that fit; the other one breaks ties.
    excluded: peer ids that get nothing. paid_on: the only blockchain that jobs are paid on; empty for any."""

    tariff: Tariff = TARIFF
    rank_by: Literal["price", "rtt"] = "price"
    excluded: frozenset[str] = frozenset()
    paid_on: str = ""


RULE = Rule()


def rank(candidate: Candidate, rtt_seconds: float, rule: Rule = RULE) -> tuple[Decimal | float, Decimal | float, str]:
    """The least is chosen. rtt_seconds: of a ping; the same for all while it is not known."""
    if rule.rank_by == "rtt":
        return rtt_seconds, candidate.price, candidate.peer_id
    return candidate.price, rtt_seconds, candidate.peer_id


class Match(Struct, frozen=True, kw_only=True):
    """candidates: cheapest first, ties by peer id; as many as were wanted. refused: a sample. refused_count: all that
    were looked at and refused, and all that can't take a job of this channel. unseen_count: those that were not looked
    at, since enough others cost no more."""

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...]
    refused_count: int
    unseen_count: int = 0


def match(
    request: ServiceRequest,
    offerings: Offers | Iterable[tuple[str, Offering]],
    channel: str,
    target: str = "",
    rule: Rule = RULE,
) -> Match:
    """All candidates. offerings: at most one a peer. channel: our own; providers of others are never candidates.
    target: a peer id that narrows the choice to it. Raises InvalidInput on a complexity that nobody knows."""
    offers = offerings if isinstance(offerings, Offers) else Offers(offerings)
    steps = search(request, offers, channel, target, rule=rule)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Match = done.value
            return found


def search(
    request: ServiceRequest,
    offers: Offers,
    channel: str,
    target: str = "",
    *,
    most: int | None = None,
    now: int = 0,
    rule: Rule = RULE,
) -> Generator[None, None, Match]:
    """The `most` cheapest candidates: the same ones, in the same order, as when all were priced and sorted. In steps
    of well below a millisecond, between which the offers may change. now: µs of the clock of their `ends_at`; whose
    word has expired is left out. Raises as `match` does."""
    looking = _Search(request, offers, channel, most, now, rule)
    if target:
        looking.at_one(target)
    else:
        yield from looking.at_floor()
        yield from looking.above()
        looking.beside()
    return looking.found()


class _Search:
    """A provider's own price counts only where it is above our estimate (`pricing.quote`). So the candidates are, in
    order: those with a lower price, which all cost the estimate, by peer id; then the others by price, where those
    that cost the same once rounded stand by peer id again."""

    def __init__(
        self, request: ServiceRequest, offers: Offers, channel: str, most: int | None, now: int, rule: Rule
    ) -> None:
        self._needs, self._offers, self._channel, self._now, self._rule = needs_of(request), offers, channel, now, rule
        self._most = len(offers) if most is None else most
        self._floor = self._quote(Decimal(0))
        self._ready = len(offers.shelf(channel).by_id)
        self._others = len(offers) - self._ready
        self._after = (Decimal("-Infinity"), "")
        self._candidates: list[Candidate] = []
        self._refused: list[Refusal] = []
        self._refused_count = self._expired_count = 0

    def _quote(self, price: Decimal) -> Decimal:
        return quote(self._needs.request.constraints, price, self._rule.tariff)

    @property
    def _enough(self) -> bool:
        return len(self._candidates) >= self._most

    def found(self) -> Match:
        return Match(
            candidates=tuple(self._candidates[: self._most]),
            refused=tuple(self._refused),
            refused_count=self._refused_count,
            unseen_count=self._unseen,
        )

    @property
    def _unseen(self) -> int:
        """Of those that were ready when the search began."""
        return max(0, self._ready - self._refused_count - self._expired_count - len(self._candidates))

    def at_one(self, peer_id: str) -> None:
        """The one that was asked for, wherever it stands."""
        row = self._offers.get(peer_id)
        self._ready = 0
        if row is None or self._expired(row):
            return
        candidate = self._candidate(row, None if row.price is None else self._quote(row.price))
        if candidate is not None:
            self._candidates.append(candidate)

    def at_floor(self) -> Iterator[None]:
        """All whose own price is below the estimate, by peer id."""
        by_price = self._offers.shelf(self._channel).by_price
        count = bisect_right(by_price, self._floor, key=lambda entry: self._quote(entry[0]))
        if not count or not self._most:
            return
        highest = by_price[count - 1][0]
        self._after = behind(highest)
        few = sorted(peer_id for _, peer_id in by_price[:count]) if count <= _SORTED_AT_ONCE else None
        for chunk in self._offers.named(self._channel) if few is None else _pieces(few):
            for peer_id in chunk:
                row = self._offers.get(peer_id)
                if row is None or row.price is None or row.price > highest:
                    continue
                candidate = self._candidate(row, self._floor)
                if candidate is not None:
                    self._candidates.append(candidate)
                    if self._enough:
                        return
            yield

    def above(self) -> Iterator[None]:
        """The others, by what they cost."""
        alike: list[Candidate] = []  # of one cost, which are put in order together
        price, cost, of_price = Decimal("-Infinity"), self._floor, 0
        over = self._enough
        while not over and (chunk := next(self._offers.priced(self._channel, self._after), None)):
            waits = len(self._candidates) + len(alike) < self._most  # for more; else only for what costs the same
            for entry in chunk:
                row = self._offers.get(entry[1])
                if waits and self._counts_as_small(row):
                    self._after = entry
                    continue
                if entry[0] != price:
                    price, of_price, now_cost = entry[0], 0, self._quote(entry[0])
                    if now_cost != cost:
                        self._add(alike)
                        alike, cost = [], now_cost
                        over = self._enough or cost > self._needs.max_ntx
                        if over:
                            break
                self._after = entry
                if row is None or row.price != price:
                    continue
                candidate = self._candidate(row, cost)
                if candidate is not None:
                    alike.append(candidate)
                    of_price += 1
                    waits = len(self._candidates) + len(alike) < self._most
                    if of_price >= self._most - len(self._candidates):
                        self._after = behind(price)  # the others of this price have higher ids
                        break
            yield
        self._add(alike)
        if not self._enough:
            self._refuse_dear()

    def _add(self, alike: list[Candidate]) -> None:
        room = self._most - len(self._candidates)
        self._candidates += heapq.nsmallest(room, alike, key=lambda candidate: candidate.peer_id)

    def _refuse_dear(self) -> None:
        """What is left costs more than was offered: counted, and some are named."""
        for _, peer_id in next(self._offers.priced(self._channel, self._after), [])[
            : REFUSALS_KEPT - len(self._refused)
        ]:
            row = self._offers.get(peer_id)
            if row is not None and row.price is not None:
                self._candidate(row, self._quote(row.price))
        self._refused_count += self._unseen

    def beside(self) -> None:
        """Those that can't take a job here at all are counted, and some are named."""
        self._ready += self._others
        self._refused_count += self._others
        for row in self._offers.beside(self._channel, REFUSALS_KEPT - len(self._refused)):
            self._refused.append(Refusal(peer_id=row.peer_id, reason=self._reason(row, None) or ""))

    def _candidate(self, row: Row, cost: Decimal | None) -> Candidate | None:
        """None for one that is refused, which is counted."""
        if self._expired(row):
            self._expired_count += 1
            return None
        if self._counts_as_small(row):
            return None
        reason = self._reason(row, cost)
        if reason is None and cost is not None:
            return Candidate(peer_id=row.peer_id, price=cost, payee=row.offering.payment_address)
        self._refused_count += 1
        if len(self._refused) < REFUSALS_KEPT:
            self._refused.append(Refusal(peer_id=row.peer_id, reason=reason or _NO_PRICE))
        return None

    def _expired(self, row: Row) -> bool:
        return 0 < row.ends_at <= self._now

    def _counts_as_small(self, row: Row | None) -> bool:
        """Refused without its price, and without a word, which nobody would read."""
        if row is None or len(self._refused) < REFUSALS_KEPT or self._expired(row):
            return False
        needed = self._needs.resources
        if row.free_cpu_mhz >= needed.cpu_mhz and row.free_memory_mb >= needed.memory_mb:
            return False
        self._refused_count += 1
        return True

    def _reason(self, row: Row, cost: Decimal | None) -> str | None:
        if row.peer_id in self._rule.excluded:
            return "is excluded"
        if cost is None and row.price is None:
            return _NO_PRICE if row.offering.channel == self._channel else _another_channel(row.offering, self._channel)
        price = self._floor if cost is None else cost
        return refusal(self._needs, row.offering, self._channel, price, self._rule.paid_on)


def _pieces(ids: list[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while piece := list(islice(rest, 500)):
        yield piece


def _another_channel(offering: Offering, channel: str) -> str:
    return f"is on channel {offering.channel}, not {channel}"


def refusal(needs: Needs, offering: Offering, channel: str, price: Decimal, paid_on: str = "") -> str | None:
    """Why this provider can't take the job, or None when it can. paid_on: as of a rule."""
    request, wish = needs.request, needs.wish
    if offering.channel != channel:
        return _another_channel(offering, channel)
    if not offering.onboarded:
        return "is not onboarded"
    if not offering.online:
        return "is offline"
    for feature in needs.features:
        if not feature.is_in(offering.features):
            return feature.lacking
    if wish and not offering.gpus:
        return "has no GPU"
    if request.service_type == "cardano_node" and not offering.allow_cardano:
        return "does not run Cardano nodes"
    if request.blockchain and offering.blockchain and request.blockchain.casefold() != offering.blockchain.casefold():
        return f"is paid on {offering.blockchain}, not {request.blockchain}"
    if paid_on and not is_address_of(paid_on, offering.payment_address):
        return f"has no payment address of {paid_on}, where payments are looked up"
    if needs.resources.cpu_mhz < offering.least_cpu_mhz:
        return f"{needs.resources.cpu_mhz} MHz CPU asked, a container there has at least {offering.least_cpu_mhz}"
    short = offering.free.shortfalls(needs.resources)
    if short:
        return "; ".join(short)
    if wish and len(fitting(offering.gpus, wish)) < wish.count:
        return f"{wish} asked, which it does not have free"
    if price > needs.max_ntx:
        return f"costs {price} NTX, above the maximum of {request.max_ntx}"
    return None
