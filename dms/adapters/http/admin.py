"""REST for operators: health, the network's capacity, the views."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.access import Budget, caller_of
from dms.adapters.http.past import AS_OF, views_at
from dms.adapters.http.replies import json_reply, list_reply, query, query_bool, query_int
from dms.adapters.http.routes import FLAG, Api, Parameter, Route, whole
from dms.domain.access import Need
from dms.errors import Unavailable
from projections.base import LeftOut
from projections.capacity import AMOUNTS, OWN, STANDING, Capacity, CapacityRow, network_sum

_CAPACITY = Capacity()
ROWS_A_READ = 1000
PAGE = 50


async def live(_request: Request, _api: Api) -> HTTPResponse:
    return json_reply({"status": "ok"})


async def ready(_request: Request, api: Api) -> HTTPResponse:
    """503 with the reason until the log is read and the network joined, and while a part that is needed for serving
    does not work. `degraded` names those without which the DMS serves."""
    reason = api.services.ready()
    if reason is not None:
        raise Unavailable(f"not ready: {reason}")
    services, device = api.services, api.services.device
    return json_reply(
        {
            "status": "ready",
            "peer_id": services.network.peer_id,
            "head": services.log.head,
            "degraded": [
                *services.loops.in_trouble,
                *services.writes.troubles,
                *map(_told, api.views.left_out().items()),
                *([device.hindrance] if device.state.onboarded and device.hindrance else []),
            ],
        }
    )


def _told(found: tuple[str, LeftOut]) -> str:
    name, left = found
    return f"view {name}: {left.events} events could not be taken in, the first at position {left.position}"


async def capacity(request: Request, api: Api) -> HTTPResponse:
    """{"providers": each with total, onboarded, reserved and free, "network": the sum of those online}. This device is
    always among them, and stands last."""
    views = await views_at(request, api)
    own = await views.get(_CAPACITY, OWN)
    shown = [] if own is None else _as_shown([own], request, api)
    others: Sequence[CapacityRow] = ()
    if caller_of(request).meets(Need.SEE):
        page = await views.page(_CAPACITY, limit=ROWS_A_READ)
        others = [row for row in page.rows if not row.own]
    totals = await views.totals(_CAPACITY, (STANDING,), {}, AMOUNTS)
    answer = {
        "providers": [row.public for row in (*others, *shown)],
        "network": network_sum(shown[0] if shown else None, totals),
    }
    return json_reply(answer)


def _as_shown(rows: Sequence[CapacityRow], request: Request, api: Api) -> list[CapacityRow]:
    """That nothing can be recorded just now is not an event, for it can't be: only the present shows it."""
    hindrance = api.services.device.hindrance
    if query(request, "as_of") or not hindrance:
        return list(rows)
    return [replace(row, online=False, hindrance=hindrance) if row.own else row for row in rows]


async def providers(request: Request, api: Api) -> HTTPResponse:
    """{"items", "next_token"}: the compute providers by peer id, this device as `self`."""
    limit = query_int(request, "limit", PAGE, ROWS_A_READ, lowest=1)
    views = await views_at(request, api)
    if query_bool(request, "own"):
        row = await views.get(_CAPACITY, OWN)
        found = [] if row is None else _as_shown([row], request, api)
        return list_reply({"items": [each.public for each in found], "next_token": ""}, len(found))
    page = await views.page(_CAPACITY, limit=limit, after=query(request, "after"), counted=True)
    shown = _as_shown(page.rows, request, api)
    return list_reply({"items": [row.public for row in shown], "next_token": page.next}, page.total)


async def projections(_request: Request, api: Api) -> HTTPResponse:
    """{"items": name, position reached, head of the log, how far behind, what it could not take in}."""
    head, left_out = api.services.log.head, api.views.left_out()
    return json_reply(
        {
            "items": [
                {
                    "name": name,
                    "position": position,
                    "head": head,
                    "behind": max(0, head - position),
                    "left_out": msgspec.to_builtins(left_out.get(name)),
                }
                for name, position in sorted(api.views.positions().items())
            ]
        }
    )


async def rebuild(request: Request, api: Api) -> HTTPResponse:
    name = request.match_info["name"]
    return json_reply({"name": name, "position": await api.views.rebuild(name)})


_OPERATORS = ("operators",)

ROUTES = (
    Route(
        "GET", "/capacity", capacity, "What providers and the network have.", answer=answers.CapacityAnswer,
        query=(AS_OF,), errors=(400,), answer_example=examples.CAPACITY, tags=_OPERATORS,
        description=f"`network` is of all; `providers` has the first {ROWS_A_READ} of them, and this machine last. "
        "`/providers` has all, in pages. Callers without a role are told of this machine alone, and of the sums.",
        needs=Need.LOCAL,
    ),
    Route(
        "GET", "/providers", providers, "The compute providers, by peer id.", answer=answers.ProviderPage,
        counted=True,
        query=(
            Parameter("limit", "Most providers in the answer.", whole(ROWS_A_READ, lowest=1, default=PAGE)),
            Parameter("after", "Continue after this one: a page's next_token."),
            Parameter("own", "Only this machine.", FLAG),
            AS_OF,
        ),
        errors=(400,), tags=_OPERATORS,
        answer_example={"items": examples.CAPACITY["providers"], "next_token": ""},
        needs=Need.SEE,
    ),
    Route(
        "GET", "/projections", projections, "The views and how far they are.", answer=answers.ViewList,
        answer_example={"items": [{"name": "jobs", "position": 17, "head": 17, "behind": 0, "left_out": None}]},
        tags=_OPERATORS,
        needs=Need.LOCAL,
    ),
    Route(
        "POST", "/projections/<name>/rebuild", rebuild, "Rebuild a view from the log.", answer=answers.Rebuilt,
        answer_example={"name": "jobs", "position": 17}, errors=(404,), tags=_OPERATORS,
        needs=Need.ADMINISTER,
    ),
    *(
        Route("GET", path, handler, summary, root=root, early=True, answer=kind, answer_example=example,
              tags=_OPERATORS, budget=Budget.NONE, needs=Need.NOTHING)
        for root in (True, False)
        for path, handler, summary, kind, example in (
            ("/livez", live, "Whether the process answers.", answers.Live, {"status": "ok"}),
            ("/readyz", ready, "Whether it can serve.", answers.Ready,
             {"status": "ready", "peer_id": examples.PEER_ID, "head": 17, "degraded": []}),
        )
    ),
)  # fmt: skip
