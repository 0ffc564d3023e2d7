"""Time travel: `as_of=<position or time>` on what is read from views, and what changed between two moments."""

from __future__ import annotations

from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.access import caller_of, require
from dms.adapters.http.replies import LARGEST, dated, json_reply, query, time_us
from dms.adapters.http.routes import Api, Parameter, Route, show_position
from dms.domain.access import Need
from dms.errors import InvalidInput
from projections.base import Projection, Views
from projections.capacity import Capacity, CapacityRow
from projections.jobs import Jobs

COMPARED: tuple[Projection[Any], ...] = (Jobs(), Capacity())
MOST_EVENTS = 100_000  # between the two moments of a comparison
PAGE = 5000


async def views_at(request: Request, api: Api) -> Views:
    """The views as they are, or as they were `as_of`: they have to be made, so not for who is nobody. Raises
    InvalidInput, Unavailable, Refused."""
    text = query(request, "as_of")
    if text:
        require(caller_of(request), Need.SEE)
    position = await position_of(text, "as_of", api) if text else 0
    await api.settled()
    if not text:
        return api.views
    show_position(request, position)
    return api.views.at(position)


async def moment_of(request: Request, api: Api) -> int:
    """Unix µs: now, or when the newest event came that is counted in `as_of`; 0 before the first."""
    if not query(request, "as_of"):
        return api.services.now()
    return await time_at(request.ctx.position, api)


async def time_at(position: int, api: Api) -> int:
    """When the event at that position was recorded, Unix µs; 0 at 0."""
    found = await api.services.log.read(position - 1, 1) if position else ()
    return found[0].time if found else 0


async def position_of(text: str, name: str, api: Api) -> int:
    """A position, or a time: the newest position at it; archived ones as well. Raises InvalidInput."""
    log = api.services.log
    problem = [(f"?{name}", f"a position from 0 to {log.head}, or a time that has passed")]
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= LARGEST:
        position = int(text)
    else:
        try:
            moment = time_us(text)
        except ValueError as error:
            raise InvalidInput(
                f"{name} is '{text[:64]}'; a position, or a time such as 2026-01-31T12:00:00Z is expected", problem
            ) from error
        if moment > api.services.now():
            raise InvalidInput(f"{name} is '{text[:64]}', which is in the future", problem)
        position = await log.position_at(moment)
    if position > log.head:
        raise InvalidInput(f"{name} is {position}, which is in the future: the newest event is at {log.head}", problem)
    return position


async def diff(request: Request, api: Api) -> HTTPResponse:
    """{"from", "to", "events", "jobs", "capacity"}: of each row that changed its key, and it before and after
    (null: not there). to: the newest position when absent."""
    start = await position_of(query(request, "from", "0"), "from", api)
    end = await position_of(query(request, "to", str(api.services.log.head)), "to", api)
    start, end = min(start, end), max(start, end)
    if end - start > MOST_EVENTS:
        raise InvalidInput(
            f"{end - start} events lie between {start} and {end}; at most {MOST_EVENTS} are compared",
            [("?from", f"at least {end - MOST_EVENTS}")],
        )
    keys = await _changed(api, start, end)
    before, after = api.views.at(start), api.views.at(end)
    shown: dict[str, Any] = {"from": start, "to": end, "events": end - start}
    for projection in COMPARED:
        rows = []
        for key in sorted(keys[projection.name]):
            pair = await before.get(projection, key), await after.get(projection, key)
            if pair[0] != pair[1]:
                rows.append({"key": key, "before": _builtins(pair[0]), "after": _builtins(pair[1])})
        shown[projection.name] = rows
    return json_reply(shown)


async def _changed(api: Api, start: int, end: int) -> dict[str, set[str]]:
    """View name -> keys of the rows that events in between touched."""
    keys: dict[str, set[str]] = {projection.name: set() for projection in COMPARED}
    position = start
    while position < end:
        events = await api.services.log.read(position, min(PAGE, end - position))
        for projection in COMPARED:
            keys[projection.name].update(key for event in events if (key := projection.key(event)) is not None)
        position = events[-1].position
    return keys


def _builtins(row: Any) -> Any:
    if row is None:
        return None
    return dated(row.public if isinstance(row, CapacityRow) else msgspec.to_builtins(row))


_MOMENT = "a position, or a time such as 2026-01-31T12:00:00Z"
AS_OF = Parameter("as_of", f"As it was then: {_MOMENT}. Not for callers without a role.", example="0")
ROUTES = (
    Route(
        "GET", "/diff", diff, "What changed between two moments.",
        query=(
            Parameter("from", f"The earlier moment: {_MOMENT}.", example="0"),
            Parameter("to", f"The later moment: {_MOMENT}; now when absent.", example="2026-01-31T12:00:00Z"),
        ),
        answer=answers.DiffAnswer, errors=(400,), tags=("events",),
        answer_example={
            "from": 3, "to": 17, "events": 14, "capacity": [],
            "jobs": [{"key": examples.JOB_ID, "before": None, "after": {"status": "completed"}}],
        },
        needs=Need.AUDIT,
    ),
)  # fmt: skip
