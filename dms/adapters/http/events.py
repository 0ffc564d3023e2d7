"""The event stream: one cursor, three ways to read it: JSON lines, Server-Sent Events, websocket.

Every event goes out as a CloudEvent. A reader that lost its connection goes on with `after=<the last position it
saw>` (or `Last-Event-ID`, which a browser sends by itself) and misses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from msgspec.structs import replace
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.access import Access, access_of, caller_of
from dms.adapters.http.connection import Socket, text_frame
from dms.adapters.http.replies import LARGEST, checked_job_id, preferred, query, query_bool, query_int, query_time
from dms.adapters.http.routes import FLAG, OPTIONAL_JOB_ID, Api, Parameter, Route, WebSocket, whole
from dms.adapters.http.sockets import Endpoint
from dms.application.records.cloudevents import CloudEvent, cloud_event
from dms.application.records.event_stream import EventFilter, check_cursor, events
from dms.application.records.export import export_job, export_log
from dms.application.tasks import background, cancelled
from dms.domain.access import Caller, Need
from dms.domain.chain import SignedRecord
from dms.domain.event import Recorded
from dms.domain.export import Footer, Header
from dms.errors import DmsError, InvalidInput

NDJSON, SSE = "application/x-ndjson", "text/event-stream"
PAGE, LARGEST_PAGE = 1000, 100_000
MOST_TYPES = 64
SEND_SECONDS = 60.0  # a reader that takes nothing for so long is cut
ALIVE_SECONDS = 15.0  # a silent stream says that it lives, for proxies and for the reader
_TYPE = re.compile(r"[a-z_]{1,64}(\.([a-z_]{1,64}|\*))?")


class Asked(NamedTuple):
    """limit: events after which the stream ends; 0: none. personal: with the personal fields open."""

    wanted: EventFilter
    after: int
    follow: bool
    limit: int
    personal: bool


async def stream_events(request: Request, api: Api) -> HTTPResponse | None:
    """200 JSON lines, or Server-Sent Events when `Accept: text/event-stream`; header `x-head`: the newest position
    when the answer began. 400 for a cursor in the future, 410 with `first_position` for one that is archived."""
    asked = _asked(request, api, follow=query_bool(request, "follow"))
    check_cursor(api.services.log, asked.wanted, asked.after)
    sse = preferred(request, NDJSON, SSE) == SSE
    headers = {"x-head": str(api.services.log.head)}
    response = await request.respond(content_type=SSE if sse else NDJSON, headers=headers)
    if response is None or request.method == "HEAD":
        return None

    async def send(data: bytes) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await response.send(data)

    await send(b": open\n\n" if sse else b"")
    form = _server_sent if sse else _line
    await _pump(api, asked, form, send, b":\n\n" if sse else b"\n")
    await response.eof()
    return None


async def export(request: Request, api: Api) -> HTTPResponse | None:
    """200 the lines of an export, as they are read: the whole log, or one job. 404 for an unknown job."""
    services, job_id = api.services, query(request, "job_id")
    if job_id:
        chunks = export_job(services.log, services.signer, checked_job_id(job_id))
    else:
        chunks = export_log(services.log, services.signer)
    async with aclosing(chunks):
        first = await anext(chunks)  # an unknown job is told before the answer begins
        response = await request.respond(content_type=NDJSON, headers={"x-head": str(services.log.head)})
        if response is None or request.method == "HEAD":
            return None
        await response.send(first)
        async for chunk in chunks:
            async with asyncio.timeout(SEND_SECONDS):
                await response.send(chunk)
        await response.eof()
    return None


class EventSession:
    """One message an event. Closed with 1013 and the last position when the reader is too slow."""

    def __init__(self, api: Api, socket: Socket, asked: Asked) -> None:
        self._api, self._socket, self._asked = api, socket, asked

    async def run(self) -> None:
        pumping = background(_to_socket(self._api, self._asked, self._socket), "event stream")
        try:
            while await self._socket.receive() is not None:
                continue  # what a reader says is of no interest
        finally:
            await cancelled(pumping)
        await self._socket.lost()


def endpoint(api: Api) -> Endpoint:
    """It follows unless told `follow=false`."""

    async def admit(request: Request) -> tuple[Asked, None]:
        asked = _asked(request, api, follow=not query(request, "follow") or query_bool(request, "follow"))
        check_cursor(api.services.log, asked.wanted, asked.after)
        return asked, None

    return Endpoint(
        WEBSOCKETS,
        admit,
        lambda _request, socket, asked: EventSession(api, socket, asked),
    )


async def _to_socket(api: Api, asked: Asked, socket: Socket) -> None:
    position = asked.after

    async def send(data: bytes) -> None:
        socket.write(data)
        async with asyncio.timeout(SEND_SECONDS):
            await socket.drained()

    def form(event: Recorded, body: bytes) -> bytes:
        nonlocal position
        position = event.position
        return text_frame(body)

    try:
        await _pump(api, asked, form, send, b"")
    except TimeoutError:
        socket.close(1013, f"too slow; go on with after={position}")
    except Exception as error:
        words = str(error) if isinstance(error, DmsError) else "internal error; it is in the log of the DMS"
        socket.close(1011, f"go on with after={position}: {words}")
        raise
    else:
        socket.close(1000, f"the end; position {position}")


async def _pump(
    api: Api,
    asked: Asked,
    form: Callable[[Recorded, bytes], bytes],
    send: Callable[[bytes], Awaitable[None]],
    alive: bytes,
) -> None:
    """Sends until the end, the limit, or for ever; `alive` in between when nothing happens."""
    services = api.services
    own, left = services.network.peer_id, asked.limit
    source = events(services.log, asked.wanted, asked.after, own, follow=asked.follow)
    async with aclosing(_with_pauses(source)) as batches:
        async for batch in batches:
            shown = batch[:left] if asked.limit else batch
            left -= len(shown)
            bodies = [cloud_event(event, own, personal=asked.personal) for event in shown]
            await send(b"".join(map(form, shown, bodies)) if shown else alive)
            if asked.limit and left == 0:
                return


async def _with_pauses(
    source: AsyncGenerator[Sequence[Recorded], None],
) -> AsyncGenerator[Sequence[Recorded], None]:
    """The batches, and an empty one whenever none came for a while."""
    async with aclosing(source):
        while True:
            more = asyncio.ensure_future(anext(source, None))
            try:
                while not (await asyncio.wait((more,), timeout=ALIVE_SECONDS))[0]:
                    yield ()
            finally:
                await cancelled(more)
            batch = more.result()
            if batch is None:
                return
            yield batch


def _line(_event: Recorded, body: bytes) -> bytes:
    return body + b"\n"


def _server_sent(event: Recorded, body: bytes) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.position, event.topic.encode(), body)


# --- what is asked for -----------------------------------------------------------------------------
def _asked(request: Request, api: Api, *, follow: bool) -> Asked:
    """Who names no position gets all that is there; of one job the archived events as well."""
    limit = query_int(request, "limit", 0 if follow else PAGE, LARGEST_PAGE, lowest=1)
    wanted = seen_by(caller_of(request), access_of(request), _wanted(request))
    after = _after(request, 0 if wanted.job_id else api.services.log.first - 1)
    return Asked(wanted, after, follow, limit, query_bool(request, "personal"))


def seen_by(caller: Caller, access: Access, wanted: EventFilter) -> EventFilter:
    """What of it the caller may see. Raises NotFound for another's job."""
    if wanted.job_id:
        access.check_job(caller, wanted.job_id)
    return replace(wanted, client=caller.owner, deployments_only=caller.only_deployments)


def _wanted(request: Request) -> EventFilter:
    job_id = query(request, "job_id")
    return EventFilter(
        types=_types(query(request, "type")),
        job_id=checked_job_id(job_id) if job_id else "",
        provider=query(request, "provider"),
        since=query_time(request, "since"),
        until=query_time(request, "until"),
    )


def _types(text: str) -> tuple[str, ...]:
    """Comma-separated: `job.completed`, `deployment.*`, `device`."""
    return checked_types([name for name in text.split(",") if name], "?type")


def checked_types(names: Sequence[str], pointer: str) -> tuple[str, ...]:
    """Topics, or kinds of them. pointer: to them, for the error. Raises InvalidInput."""
    for name in names:
        if len(names) > MOST_TYPES or not _TYPE.fullmatch(name):
            raise InvalidInput(
                f"type is '{','.join(names)[:64]}'; expected topics such as job.completed or job.*, separated by "
                f"commas, at most {MOST_TYPES}",
                [(pointer, "a topic")],
            )
    return tuple(names)


def _after(request: Request, otherwise: int) -> int:
    """A browser that reconnects names the last event that it saw in a header of its own."""
    last = request.headers.get("last-event-id", "").strip()
    if not last:
        return query_int(request, "after", otherwise)
    if not (last.isascii() and last.isdigit() and len(last) <= 19):
        raise InvalidInput(f"Last-Event-ID is '{last[:64]}'; a position is expected", [("Last-Event-ID", "a number")])
    return int(last)


QUERY = (
    Parameter("after", "Only events after this position; all that are not archived when absent.", whole(LARGEST)),
    Parameter("limit", "End after this many events.", whole(LARGEST_PAGE, lowest=1)),
    Parameter("follow", "Go on with what happens from now on.", FLAG),
    Parameter("type", "Topics, with commas between.", example="job.completed,device.*"),
    Parameter("job_id", "Only of this job.", OPTIONAL_JOB_ID, example=""),
    Parameter("provider", "Only of this compute provider: its peer id."),
    Parameter("since", "Not before this time (ISO 8601).", example="2026-01-31T12:00:00Z"),
    Parameter("until", "Before this time (ISO 8601).", example="2026-02-01T12:00:00Z"),
    Parameter("personal", "With what is sealed of persons in the clear; the hash is of the sealed form.", FLAG),
)

ROUTES = (
    Route(
        "GET", "/events", stream_events, "The event log as a stream.", query=QUERY,
        media={NDJSON: CloudEvent, SSE: {"type": "string"}}, answer_example=examples.CLOUD_EVENT,
        errors=(400, 404, 410), stream=True, tags=("events",),
        description="One CloudEvent a line, or with `Accept: text/event-stream` as Server-Sent Events, whose ids are "
        "positions. A reader continues after `after`, or after `Last-Event-ID`. 410 tells the first position that "
        "is still there.",
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/events/export", export, "The log, or one job of it, as lines that prove themselves.",
        query=(Parameter("job_id", "Only this job, each record signed by this node.", OPTIONAL_JOB_ID, example=""),),
        media={NDJSON: (Header, SignedRecord, Footer)}, answer_example=examples.SIGNED_RECORD, errors=(404,),
        stream=True, tags=("events",),
        description="A header, one signed record a line, and a footer with the node's signature of the head. "
        "`nunet audit verify --export FILE` checks it without this node.",
        needs=Need.AUDIT,
    ),
)  # fmt: skip

WEBSOCKETS = (
    WebSocket(
        path="/events/ws", summary="The event log as a websocket: one message an event.", query=QUERY,
        errors=(400, 404, 410), tags=("events",), outgoing={"event": CloudEvent},
        description="Follows unless told `follow=false`. Closed with 1013 and the last position when the reader is "
        "too slow.",
        stream=True,
        needs=Need.SEE_JOBS,
    ),
)  # fmt: skip
