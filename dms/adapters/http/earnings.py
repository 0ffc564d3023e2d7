"""REST of what jobs earned and cost, by day, month, peer, machine, job or GPU: as JSON, or as CSV for a spreadsheet."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import asdict
from sanic import HTTPResponse, Request

from dms.adapters.http.job_lists import PEER, ROLE, ROLES, SINCE, UNTIL, between, checked_role, seen_by
from dms.adapters.http.past import AS_OF, views_at
from dms.adapters.http.replies import LARGEST, list_reply, preferred, query, query_choice, query_int
from dms.adapters.http.routes import Api, Parameter, Route, choice, whole
from dms.domain.access import Need
from dms.errors import InvalidInput
from projections.base import KEY, Condition
from projections.job_columns import CLAIMED, COST, PAID_OUT, REWARDS, TO_CLAIM, cards_of, ntx, shared
from projections.jobs import Jobs

_JOBS = Jobs()
BY = ("day", "month", "peer", "device", "job")
PAGE, LARGEST_PAGE = 1000, 10_000
JSON, CSV = "application/json", "text/csv"
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
_COLUMNS = {"day": "ended_day", "month": "ended_day", "peer": "peer", "device": "peer", "job": KEY}


class Earnings(Struct, frozen=True, kw_only=True):
    """Of paid jobs that are over. earned: what this node gets for running jobs; of that claimed and not paid out yet,
    paid out, and still to claim. spent: what others get for running its jobs."""

    group: Annotated[
        str,
        Meta(
            description="the day or month (UTC), the peer id, the job id, or a GPU's id (none: of jobs without one); "
            "empty for all together"
        ),
    ]
    jobs: Annotated[int, Meta(description="how many jobs")]
    earned_ntx: Annotated[str, Meta(description="NTX that this node gets for jobs that it ran")]
    claimed_ntx: Annotated[str, Meta(description="NTX of that which were asked for, and are not paid out yet")]
    paid_ntx: Annotated[str, Meta(description="NTX of that which were paid out")]
    to_claim_ntx: Annotated[str, Meta(description="NTX of that which were not asked for yet")]
    spent_ntx: Annotated[str, Meta(description="NTX that others get for jobs of this node")]


class EarningsAnswer(Struct, frozen=True, kw_only=True):
    by: Annotated[Literal["day", "month", "peer", "device", "job"], Meta(description="what a row is of")]
    position: Annotated[int, Meta(description="the position of the log that it shows")]
    items: Annotated[list[Earnings], Meta(description="in the order of their groups")]
    total: Annotated[Earnings, Meta(description="of all groups, on this page and others")]
    next_token: str


class GpuEarningsAnswer(Struct, frozen=True, kw_only=True):
    position: Annotated[int, Meta(description="the position of the log that it shows")]
    items: Annotated[list[Earnings], Meta(description="in the order of the GPUs' ids")]
    total: Annotated[Earnings, Meta(description="of all jobs, each counted once")]
    next_token: str


Groups = Mapping[tuple[str, str, str], tuple[int, ...]]
"""(group, role, reward) -> (jobs, and what they cost, as COST has it)"""


class Listed(NamedTuple):
    """A page of groups. in_all: how many there are."""

    rows: list[Earnings]
    in_all: int
    total: Earnings
    next_token: str


async def earnings(request: Request, api: Api) -> HTTPResponse:
    """By day unless told otherwise."""
    by = query_choice(request, "by", *BY) or "day"
    naming = _naming(by, api.services.network.peer_id)
    answer = partial(EarningsAnswer, by=by)  # type: ignore[arg-type]  # one of BY
    return await _answered(request, api, _Kind(by, _COLUMNS[by], partial(_grouped, name=naming), answer))


async def earnings_of_gpus(request: Request, api: Api) -> HTTPResponse:
    """Of jobs that ran here: of others' machines a job's cards are not known."""
    return await _answered(request, api, _Kind("gpu", "gpus", _by_card, GpuEarningsAnswer), ROLES["cp"])


class _Kind(NamedTuple):
    """How jobs are put together. name: of a group, in CSV. column: of the view, by which they are summed first."""

    name: str
    column: str
    grouped: Callable[[Groups], Parts]
    answer: Callable[..., Struct]


async def _answered(request: Request, api: Api, kind: _Kind, role: str = "") -> HTTPResponse:
    """role: empty: what is asked for. CSV has no sums, and all rows unless a limit is given."""
    form = _format(request)
    limit = query_int(request, "limit", PAGE if form == "json" else LARGEST, LARGEST_PAGE, lowest=1)
    after, descending = query(request, "after"), query_choice(request, "order", "asc", "desc") == "desc"
    where = _wanted(request, role)
    views = await views_at(request, api)
    found: Any = await views.totals(_JOBS, (kind.column, "role", "reward"), where, COST)
    # By job there are as many groups as jobs.
    listed = await asyncio.to_thread(_listed, found, kind.grouped, after, limit, descending=descending)
    if form == "csv":
        return _csv_reply(kind.name, await asyncio.to_thread(as_csv, kind.name, listed.rows), listed.in_all)
    told = kind.answer(
        position=request.ctx.position, items=listed.rows, total=listed.total, next_token=listed.next_token
    )
    return list_reply(told, listed.in_all)


def _listed(found: Groups, grouped: Callable[[Groups], Parts], after: str, limit: int, *, descending: bool) -> Listed:
    """Raises InvalidInput."""
    groups = grouped(found)
    names = sorted(groups, reverse=descending)
    behind = names[names.index(after) + 1 :] if after and after in groups else _from(after, names)
    return Listed(
        rows=[_earnings(name, groups[name]) for name in behind[:limit]],
        in_all=len(names),
        total=_earnings("", [(role, reward, sums) for (_, role, reward), sums in found.items()]),
        next_token=behind[limit - 1] if len(behind) > limit else "",
    )


def _from(after: str, names: list[str]) -> list[str]:
    """All of them. Raises InvalidInput for a place that there is not."""
    if after:
        what = "expected the next_token of a page that was asked for like this one"
        raise InvalidInput(f"after is '{after[:64]}'; {what}", [("?after", what)])
    return names


def _format(request: Request) -> str:
    """json or csv: what is asked for, else what the client prefers. Raises InvalidInput."""
    asked = query_choice(request, "format", "json", "csv")
    return asked or ("csv" if preferred(request, JSON, CSV) == CSV else "json")


def _wanted(request: Request, role: str) -> dict[str, Condition]:
    """role: empty: what is asked for. Raises InvalidInput."""
    where: dict[str, Condition] = {"reward": REWARDS}
    if period := between(request):
        where["ended_at"] = period
    if asked := role or query(request, "role"):
        where["role"] = checked_role(asked)
    if peer := query(request, "peer"):
        where["peer"] = peer
    return where | seen_by(request, where.get("role"))


# --- sums, pure --------------------------------------------------------------------------------------
Part = tuple[str, str, tuple[int, ...]]
"""(role, reward, (jobs, and what they cost))"""
Parts = Mapping[str, Sequence[Part]]
"""By group."""


def _naming(by: str, own: str) -> Callable[[str, str], str]:
    """(a column's value, role) -> the group."""
    if by == "month":
        return lambda day, _: day[:7]
    if by == "device":
        return lambda peer, role: own if role == ROLES["cp"] else peer
    return lambda value, _: value


def _grouped(found: Groups, name: Callable[[str, str], str]) -> Parts:
    groups: dict[str, list[Part]] = {}
    for (value, role, reward), sums in found.items():
        groups.setdefault(name(value, role), []).append((role, reward, sums))
    return groups


def _by_card(found: Groups) -> Parts:
    """A job counts for each of its cards, and they share what it cost."""
    groups: dict[str, list[Part]] = {}
    for (gpus, role, reward), (jobs, thousands, rest) in found.items():
        cards = cards_of(gpus)
        for card, cost in zip(cards, shared(thousands, rest, len(cards)), strict=True):
            groups.setdefault(card, []).append((role, reward, (jobs, *cost)))
    return groups


def _earnings(group: str, parts: Iterable[Part]) -> Earnings:
    parts = list(parts)

    def cost(role: str, *rewards: str) -> str:
        fitting = [sums for of, reward, sums in parts if of == ROLES[role] and reward in rewards]
        return ntx(sum(thousands for _, thousands, _ in fitting), sum(rest for _, _, rest in fitting))

    return Earnings(
        group=group,
        jobs=sum(jobs for _, _, (jobs, *_) in parts),
        earned_ntx=cost("cp", *REWARDS),
        claimed_ntx=cost("cp", CLAIMED),
        paid_ntx=cost("cp", PAID_OUT),
        to_claim_ntx=cost("cp", TO_CLAIM),
        spent_ntx=cost("sp", *REWARDS),
    )


# --- CSV ---------------------------------------------------------------------------------------------
def _csv_reply(by: str, text: str, total: int) -> HTTPResponse:
    headers = {"x-total": str(total), "content-disposition": f'attachment; filename="earnings-by-{by}.csv"'}
    return HTTPResponse(text.encode(), 200, headers, f"{CSV}; charset=utf-8; header=present")


def as_csv(by: str, rows: Iterable[Earnings]) -> str:
    """Source of the form: RFC 4180."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([by if name == "group" else name for name in Earnings.__struct_fields__])
    writer.writerows([cell(value) for value in asdict(row).values()] for row in rows)
    return text.getvalue()


def cell(value: object) -> str:
    """Text that no spreadsheet takes for a formula: a peer may call itself anything. Source: OWASP, CSV Injection."""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text


_EXAMPLE = {
    "group": "2026-01-31", "jobs": 3, "earned_ntx": "0.05456", "claimed_ntx": "0.02728", "paid_ntx": "0",
    "to_claim_ntx": "0.02728", "spent_ntx": "0.4",
}  # fmt: skip

_QUERY = (
    SINCE, UNTIL, PEER, AS_OF,
    Parameter("order", "Of the groups: upwards or downwards; upwards when absent.", choice("asc", "desc")),
    Parameter("limit", "Most rows in the answer; as CSV all when absent.",
              whole(LARGEST_PAGE, lowest=1, default=PAGE)),
    Parameter("after", "Continue after this one: a page's next_token."),
    Parameter("format", "In place of the header Accept.", choice("json", "csv")),
)  # fmt: skip
ROUTES = (
    Route(
        "GET", "/earnings", earnings, "What jobs earned and cost, by day, month, peer, device or job.", counted=True,
        query=(
            Parameter("by", "What a row is of; a day when absent. The device is the machine that ran the job.",
                      choice(*BY)),
            ROLE, *_QUERY,
        ),
        answer=EarningsAnswer, media={CSV: {"type": "string"}}, errors=(400,), tags=("transactions",),
        answer_example={
            "by": "day", "position": 17, "items": [_EXAMPLE], "total": _EXAMPLE | {"group": ""}, "next_token": "",
        },
        description="Of jobs that were paid for and are over; `since` and `until` are of their ends. With "
        "`format=csv` or `Accept: text/csv` as CSV with a line of headings, whose first one is what `by` says.",
        needs=Need.SEE_PAYMENTS,
    ),
    Route(
        "GET", "/earnings/gpus", earnings_of_gpus, "What each GPU of this machine earned.", counted=True, query=_QUERY,
        answer=GpuEarningsAnswer, media={CSV: {"type": "string"}}, errors=(400,), tags=("transactions",),
        answer_example={
            "position": 17, "items": [_EXAMPLE | {"group": "GPU-5a2c", "spent_ntx": "0"}],
            "total": _EXAMPLE | {"group": "", "spent_ntx": "0"}, "next_token": "",
        },
        description="As `GET /earnings`, of the jobs that ran here. The GPUs of a job share equally what it earned, "
        "and it counts for each of them; `none` has the jobs without one.",
        needs=Need.SEE_PAYMENTS,
    ),
)  # fmt: skip
