"""REST of the archive: which events went to files, and moving more of them there."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.replies import LARGEST, iso, json_reply, query_int
from dms.adapters.http.routes import Api, Parameter, Route, whole
from dms.adapters.http.strict_json import parse
from dms.application.ports.event_log import ArchivedSegment
from dms.domain.access import Need

MOST_SEGMENTS = 1000
PAGE = 100


class SegmentAnswer(Struct, frozen=True, kw_only=True):
    """One file of the archive: positions `first` to `last`, complete. `nunet audit verify --export FILE` checks it."""

    file: str
    first: int
    last: int
    newest: Annotated[str, Meta(description="time of its newest event")]
    size_bytes: int
    sha256: Annotated[str, Meta(description="of the file as it was written")]
    hash: Annotated[str, Meta(description="of the event at `last`")]
    state: Annotated[str, Meta(description="ok, missing, or damaged: of another size")]


class ArchiveAnswer(Struct, frozen=True, kw_only=True):
    """first_position: of the events that are not archived. after_days: the setting; 0: never."""

    after_days: float
    first_position: int
    items: list[SegmentAnswer]
    next_token: str


class ArchiveBody(Struct, frozen=True, kw_only=True):
    """older_than_days: the setting eventlog.archive_after_days when absent."""

    older_than_days: Annotated[float, Meta(ge=0, le=36_500)] | None = None


class ArchiveRun(Struct, frozen=True, kw_only=True):
    """segment: what was written; null: nothing is so old. rows_removed: of events that are now in files alone.
    more: ask again, there may be more."""

    segment: SegmentAnswer | None
    rows_removed: int
    more: bool
    first_position: int


async def list_segments(request: Request, api: Api) -> HTTPResponse:
    """The files in order of their positions."""
    limit = query_int(request, "limit", PAGE, MOST_SEGMENTS, lowest=1)
    found = await api.services.retention.segments(query_int(request, "after", 0), limit)
    return json_reply(
        ArchiveAnswer(
            after_days=api.services.retention.after_days,
            first_position=api.services.log.first,
            items=[_segment_answer(segment) for segment in found],
            next_token=str(found[-1].first) if len(found) == limit else "",
        )
    )


async def run(request: Request, api: Api) -> HTTPResponse:
    """Archives the oldest events: one file at most, so that the answer comes soon."""
    body = parse(request.body, ArchiveBody) if request.body else ArchiveBody()
    step = await api.services.retention.archive(body.older_than_days)
    return json_reply(
        ArchiveRun(
            segment=_segment_answer(step.segment) if step.segment else None,
            rows_removed=step.rows_removed,
            more=step.more,
            first_position=api.services.log.first,
        )
    )


def _segment_answer(segment: ArchivedSegment) -> SegmentAnswer:
    return SegmentAnswer(
        file=segment.file,
        first=segment.first,
        last=segment.last,
        newest=iso(segment.newest) or "",
        size_bytes=segment.size_bytes,
        sha256=segment.sha256,
        hash=segment.hash,
        state=segment.state,
    )


_EXAMPLE = {
    "file": "/var/nunet/archive/events-000000000001-000000050000.ndjson.gz",
    "first": 1,
    "last": 50_000,
    "newest": "2026-01-31T12:00:00.000000+00:00",
    "size_bytes": 7_340_032,
    "sha256": "b1" * 32,
    "hash": "d3" * 32,
    "state": "ok",
}
ROUTES = (
    Route(
        "GET", "/archive", list_segments, "The files that hold archived events.", answer=ArchiveAnswer,
        query=(
            Parameter("limit", "Most files in the answer.", whole(MOST_SEGMENTS, lowest=1, default=PAGE)),
            Parameter("after", "Only those that begin behind this position.", whole(LARGEST, default=0)),
        ),
        answer_example={"after_days": 90, "first_position": 50_001, "items": [_EXAMPLE], "next_token": ""},
        tags=("events",),
        needs=Need.AUDIT,
    ),
    Route(
        "POST", "/archive/run", run, "Move old events to a file of the archive.", body=ArchiveBody,
        body_optional=True, body_example={"older_than_days": 90}, answer=ArchiveRun, tags=("events",),
        answer_example={"segment": _EXAMPLE, "rows_removed": 46_120, "more": True, "first_position": 50_001},
        description="Events are archived in order, up to the first that is younger; those of jobs, deployments and "
        "transfers that ended leave the database. One file a request: ask again while `more`. All that reads the "
        "log reads the files too, only the stream's cursors behind them get a 410.",
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip
