"""What a route is: data, so that the server and the API's description are made from the same table."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from sanic import HTTPResponse, Request

from dms.adapters.http.access import Budget
from dms.adapters.http.connection import connection_of
from dms.adapters.http.replies import query_bool
from dms.adapters.http.streams import Kind, Streams
from dms.application.cause import caused_by
from dms.application.network.messages import UUID_PATTERN
from dms.application.services import Services
from dms.domain.access import Need
from dms.domain.event import new_id
from dms.errors import Unavailable
from dms.json_schema import shown_pattern
from projections.base import LiveViews

PREFIX = "/api/v1"
VIEW_SECONDS = 10.0
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Api:
    """What handlers call."""

    def __init__(self, services: Services, views: LiveViews, streams: Streams) -> None:
        self.services, self.views, self.streams = services, views, streams

    async def settled(self) -> None:
        """Returns once the views show all that was recorded before the call. Raises Unavailable."""
        try:
            async with asyncio.timeout(VIEW_SECONDS):
                await self.views.wait(self.services.log.head)
        except TimeoutError as error:
            raise Unavailable("the views are behind the log; try again in a moment") from error

    def log_path(self, job_id: str) -> str:
        """From the root of the server; knowing it is the right to read the output."""
        return f"{PREFIX}/jobs/{job_id}/logs?token={self.services.log_token(job_id)}"


Handler = Callable[[Request, Api], Awaitable[HTTPResponse | None]]
"""None: it has answered by itself, as a stream."""


@dataclass(frozen=True)
class Parameter:
    """One query parameter. schema: JSON Schema of its value; example: one that works."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: TEXT)
    required: bool = False
    example: Any = None


TEXT: Mapping[str, Any] = {"type": "string"}
JOB_ID: Mapping[str, Any] = {"type": "string", "format": "uuid", "pattern": shown_pattern(UUID_PATTERN)}
OPTIONAL_JOB_ID: Mapping[str, Any] = {"type": "string", "pattern": f"^$|{shown_pattern(UUID_PATTERN)}"}
FLAG: Mapping[str, Any] = {"type": "boolean", "default": False}


def whole(highest: int, *, lowest: int = 0, default: int | None = None) -> Mapping[str, Any]:
    """The schema of a whole number."""
    given = {} if default is None else {"default": default}
    return {"type": "integer", "minimum": lowest, "maximum": highest, **given}


def choice(*words: str) -> Mapping[str, Any]:
    """One of the words, or empty for none."""
    return {"type": "string", "enum": [*words, ""]}


@dataclass(frozen=True)
class Route:
    """One REST endpoint, with all that its description needs.

    path: from the root when `root`, else under /api/v1; parameters as `<name>`. body: the type that the
    request is read as; it may be left out when `body_optional`. early: is answered before the daemon is
    ready, too. answer: of the 200, a type that msgspec can describe or a JSON Schema; None: no body.
    media: for an answer that is not (only) JSON: content type -> type or schema, of one item where it is a stream;
    a tuple where items differ.
    changes: a GET that changes something, as some of the original's do: web pages of elsewhere may not ask for it.
    counted: its header x-total says how many there are in all.
    tagged: its header etag names this version of what it answers; a change of it takes that as If-Match.
    secret: its answer tells one, so it is never compressed.
    budget: what its requests are counted in.
    needs: what a caller must be; of a route with `<job_id>` in its path, the job must be the caller's as well.
    errors: statuses beyond those of every route (`openapi.COMMON`). body_example, answer_example: JSON values.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[Any] | None = None
    query: tuple[Parameter, ...] = ()
    root: bool = False
    early: bool = False
    answer: Any = None
    errors: tuple[int, ...] = ()
    body_example: Any = None
    answer_example: Any = None
    tags: tuple[str, ...] = ()
    description: str = ""
    body_optional: bool = False
    status: int = 200
    media: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    deprecated: bool = False
    changes: bool = False
    secret: bool = False
    counted: bool = False
    tagged: bool = False
    budget: Budget = Budget.REQUESTS
    needs: Need = field(kw_only=True)

    @property
    def address(self) -> str:
        return self.path if self.root else PREFIX + self.path

    @property
    def takes_tags(self) -> bool:
        return self.tagged and self.method != "GET"

    @property
    def shows_position(self) -> bool:
        """Whether its header x-position says which events its answer has counted in. A stream has them in itself."""
        return self.method == "GET" and not (self.early or self.stream)


@dataclass(frozen=True, kw_only=True)
class WebSocket:
    """An address that upgrades to a websocket. incoming, outgoing: messages (or actions) by name, as types
    or JSON Schemas. subprotocols: where what goes out depends on it, the outgoing messages under each; "": none
    was asked for. errors: of the handshake. stream: it counts among the streams as well."""

    path: str
    summary: str
    query: tuple[Parameter, ...] = ()
    root: bool = False
    errors: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    description: str = ""
    incoming: Mapping[str, Any] = field(default_factory=dict)
    outgoing: Mapping[str, Any] = field(default_factory=dict)
    subprotocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stream: bool = False
    needs: Need

    @property
    def address(self) -> str:
        return self.path if self.root else PREFIX + self.path


async def run(route: Route, request: Request, api: Api) -> HTTPResponse | None:
    """The handler, as one cause of events, once the caller is let in."""
    await request.app.ctx.access.admit(request, route.needs, route.budget)
    reason = None if route.early else api.services.not_serving()
    if reason is not None:
        raise Unavailable(f"the DMS can't serve yet: {reason}")
    if route.changes:
        request.app.ctx.gate.check_change(request)
        if request.method == "HEAD":  # it may never change anything
            return HTTPResponse(None, 200, content_type="application/json")
    if route.shows_position:
        show_position(request, api.services.log.head)
    if route.stream and query_bool(request, "follow"):
        connection_of(request).follow()
    with (
        api.streams.one(request, Kind.STREAM) if route.stream else nullcontext(),
        caused_by(new_id(), traceparent(request)),
    ):
        return await route.handler(request, api)


def show_position(request: Request, position: int) -> None:
    """Everything up to that position of the log is in the answer: whoever goes on with the events behind it misses
    none."""
    request.ctx.position = position


def traceparent(request: Request) -> str:
    """The caller's, when it is a valid one. Source: W3C Trace Context."""
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else ""
