"""Which compute providers can take a job. Pure: advertisements in, candidates and refusals out."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import Struct

from dms.domain.directory import Offering
from dms.domain.gpus import GpuWish, fitting
from dms.domain.job import Refusal
from dms.domain.pricing import TARIFF, Tariff, quote
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources

REFUSALS_KEPT = 20  # recorded with a request; the rest is only counted


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


def needs_of(request: ServiceRequest) -> Needs:
    return Needs(
        request=request,
        resources=msgspec.structs.replace(request.resources, vram_mb=0),
        wish=request.gpu_wish,
        max_ntx=Decimal(str(request.max_ntx)),
    )


class Rule(Struct, frozen=True, kw_only=True):
    """How providers are chosen. rank_by: what decides between those that fit; the other one breaks ties.
    excluded: peer ids that get nothing."""

    tariff: Tariff = TARIFF
    rank_by: Literal["price", "rtt"] = "price"
    excluded: frozenset[str] = frozenset()


RULE = Rule()


def rank(candidate: Candidate, rtt_seconds: float, rule: Rule = RULE) -> tuple[Decimal | float, Decimal | float, str]:
    """The least is chosen. rtt_seconds: of a ping; the same for all while it is not known."""
    if rule.rank_by == "rtt":
        return rtt_seconds, candidate.price, candidate.peer_id
    return candidate.price, rtt_seconds, candidate.peer_id


class Match(Struct, frozen=True, kw_only=True):
    """candidates: cheapest first, ties by peer id."""

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...]
    refused_count: int


def match(
    request: ServiceRequest,
    offerings: Iterable[tuple[str, Offering]],
    channel: str,
    target: str = "",
    rule: Rule = RULE,
) -> Match:
    """offerings: (peer id, offering), at most one a peer. channel: our own; providers of others
    are never candidates. target: a peer id that narrows the choice to it."""
    candidates: list[Candidate] = []
    refused: list[Refusal] = []
    refused_count = 0
    needs = needs_of(request)
    for peer_id, offering in offerings:
        if target and peer_id != target:
            continue
        price = quote(request.constraints, offering.price, rule.tariff)
        reason = "is excluded" if peer_id in rule.excluded else refusal(needs, offering, channel, price)
        if reason is None:
            candidates.append(Candidate(peer_id=peer_id, price=price, payee=offering.payment_address))
            continue
        refused_count += 1
        if len(refused) < REFUSALS_KEPT:
            refused.append(Refusal(peer_id=peer_id, reason=reason))
    candidates.sort(key=lambda c: (c.price, c.peer_id))  # distances are not known here
    return Match(candidates=tuple(candidates), refused=tuple(refused), refused_count=refused_count)


def refusal(needs: Needs, offering: Offering, channel: str, price: Decimal) -> str | None:
    """Why this provider can't take the job, or None when it can."""
    request, wish = needs.request, needs.wish
    if offering.channel != channel:
        return f"is on channel {offering.channel}, not {channel}"
    if not offering.onboarded:
        return "is not onboarded"
    if not offering.online:
        return "is offline"
    if wish and not offering.gpus:
        return "has no GPU"
    if request.service_type == "cardano_node" and not offering.allow_cardano:
        return "does not run Cardano nodes"
    if request.blockchain and offering.blockchain and request.blockchain.casefold() != offering.blockchain.casefold():
        return f"is paid on {offering.blockchain}, not {request.blockchain}"
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
