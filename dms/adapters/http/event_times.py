"""REST of when events were: which position belongs to a time, and how many events there were when."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.answers import Time
from dms.adapters.http.job_lists import seen_by
from dms.adapters.http.past import position_of, time_at
from dms.adapters.http.replies import iso, json_reply, query, query_int
from dms.adapters.http.routes import Api, Parameter, Route, show_position, whole
from dms.application.records.density import Density, density, of_some
from dms.domain.access import Need
from dms.errors import InvalidInput
from projections.base import Views, Where
from projections.jobs import Jobs

BUCKETS, MOST_BUCKETS = 200, 1000
MOST_JOBS, JOBS_A_READ = 10_000, 1000
_JOBS = Jobs()
Position = Annotated[int, Meta(description="a position of the log; 0 before its first event")]


class PositionAnswer(Struct, frozen=True, kw_only=True):
    position: Position
    time: Annotated[Time | None, Meta(description="when the event there was recorded; null at 0")]


class BucketAnswer(Struct, frozen=True, kw_only=True):
    """A span of time."""

    position: Annotated[int, Meta(description="of its first event, or of the next one where it has none")]
    time: Annotated[Time | None, Meta(description="when the span begins")]
    count: Annotated[int, Meta(description="its events")]


class DensityAnswer(Struct, frozen=True, kw_only=True):
    """Spans of the same length from the first event to the newest, of those that the caller may see."""

    first_position: Position
    head: Annotated[int, Meta(description="the log's newest position")]
    first_time: Annotated[Time | None, Meta(description="when the first event was recorded; null without events")]
    last_time: Annotated[Time | None, Meta(description="when the newest event was recorded; null without events")]
    buckets: Annotated[list[BucketAnswer], Meta(description="the spans, in order; together they have every event")]


async def position(request: Request, api: Api) -> HTTPResponse:
    """Of a time, or with a position when that was."""
    text = query(request, "time")
    if not text:
        what = "a time such as 2026-01-31T12:00:00Z is expected"
        raise InvalidInput(f"time is missing; {what}", [("?time", what)])
    found = await position_of(text, "time", api)
    show_position(request, found)
    return json_reply(PositionAnswer(position=found, time=iso(await time_at(found, api))))


async def densities(request: Request, api: Api) -> HTTPResponse:
    """Over the whole log, archived events as well; for who sees some jobs alone, over the events of these."""
    buckets = query_int(request, "buckets", BUCKETS, MOST_BUCKETS, lowest=1)
    log, head = api.services.log, request.ctx.position
    seen = seen_by(request)
    if seen:
        await api.settled()
        found = await own_density(api.views, seen, head, buckets)
    else:
        found = await asyncio.to_thread(density, head, log.time_at, buckets)
    return json_reply(
        DensityAnswer(
            first_position=found.first_position,
            head=found.head,
            first_time=iso(found.first_time),
            last_time=iso(found.last_time),
            buckets=[BucketAnswer(position=b.position, time=iso(b.time), count=b.count) for b in found.buckets],
        )
    )


async def own_density(views: Views, seen: Where, head: int, buckets: int) -> Density:
    """Of the events in the timelines of the newest jobs among those that are seen."""
    steps: list[tuple[int, int]] = []
    after = ""
    for _ in range(MOST_JOBS // JOBS_A_READ):
        page = await views.page(_JOBS, limit=JOBS_A_READ, after=after, where=seen, newest_first=True)
        steps += [(step.position, step.time) for row in page.rows for step in row.timeline if step.position <= head]
        if not (after := page.next):
            break
    return await asyncio.to_thread(of_some, steps, head, buckets)


ROUTES = (
    Route(
        "GET", "/events/position", position, "The newest position at a time.",
        query=(
            Parameter("time", "The moment: a time, or a position, of which the time is told.", required=True,
                      example="0"),
        ),
        answer=PositionAnswer, answer_example={"position": 17, "time": examples.TIME}, errors=(400,), tags=("events",),
        description="As `as_of` takes it. Where a clock was set back, the newest of the positions that fit.",
        needs=Need.SEE,
    ),
    Route(
        "GET", "/events/density", densities, "How many events there were when.",
        query=(Parameter("buckets", "Most spans of time.", whole(MOST_BUCKETS, lowest=1, default=BUCKETS)),),
        answer=DensityAnswer, errors=(400,), tags=("events",),
        answer_example={
            "first_position": 1, "head": 17, "first_time": examples.TIME, "last_time": examples.TIME,
            "buckets": [{"position": 1, "time": examples.TIME, "count": 17}],
        },
        description="From a few events that are looked at, so that it is quick over a million of them. Who sees some "
        f"jobs alone gets the events of these, of the newest {MOST_JOBS} at most.",
        needs=Need.SEE,
    ),
)  # fmt: skip
