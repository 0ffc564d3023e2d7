"""REST of jobs: asking for one, looking at them, ending them. Their output is in `joblogs.py`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.access import caller_of, reach_of
from dms.adapters.http.job_lists import LARGEST_PAGE, job_answer, stop_one
from dms.adapters.http.joblogs import NDJSON, logs
from dms.adapters.http.joblogs import TEXT as TEXT_MEDIA
from dms.adapters.http.past import AS_OF, views_at
from dms.adapters.http.problems import Finding
from dms.adapters.http.replies import (
    LARGEST,
    checked_job_id,
    iso,
    json_reply,
    query,
    query_bool,
    query_int,
)
from dms.adapters.http.routes import FLAG, Api, Parameter, Route, choice, whole
from dms.adapters.http.strict_json import Findings, parse
from dms.adapters.http.thorough import read_thoroughly
from dms.application.jobs.request_check import ReadingFindings
from dms.application.records.job_events import streams_of_job
from dms.domain.access import Need
from dms.domain.event import Recorded, open_data
from dms.domain.request import ServiceRequest
from dms.domain.request_doubts import doubts_of
from dms.errors import NotFound
from projections.jobs import JobRow, Jobs

_JOBS = Jobs()
_NOT_READ = frozenset(
    f"/{key}"
    for key in (
        "$schema",
        "timestamp",
        "traceinfo",
        "metadata_hash",
        "withdraw_hash",
        "refund_hash",
        "distribute_hash",
        "distribute_50_hash",
        "distribute_75_hash",
    )
)  # for editors; and what known clients send, which the original overwrote


class TerminateBody(Struct, frozen=True):
    reason: Annotated[str, Meta(max_length=1000)] = ""


async def request_service(request: Request, api: Api) -> HTTPResponse:
    """200 with the fields of both generations of the original; 404 says of each candidate why not."""
    asked, findings, warnings = _read_request(request)
    quote = await api.services.service_provider.request_service(
        asked, findings, reach=reach_of(request), client=caller_of(request).owner or ""
    )
    return json_reply(
        {
            "job_id": quote.job_id,
            "compute_provider_addr": quote.compute_provider_addr,
            "compute_provider_id": quote.compute_provider_id,
            "estimated_price": quote.estimated_price,
            "attempts": quote.attempts,
            "signature": quote.signature,
            "oracle_message": quote.oracle_message,
            **quote.hashes,
            "held_until": iso(quote.held_until) if quote.held_until else None,
            "warnings": _findings([*warnings, *quote.warnings]),
        }
    )


def _read_request(request: Request) -> tuple[ServiceRequest, ReadingFindings, Findings]:
    """The request; for what it is refused; what may be a mistake, and is refused too when that is asked for."""
    found = read_thoroughly(request.body, ServiceRequest, examples.SERVICE_REQUEST)
    unknown = [(at, what) for at, what in found.unknown if at not in _NOT_READ]
    warnings = unknown + doubts_of(found.value)
    if query_bool(request, "strict"):
        return found.value, ReadingFindings(found.problems, warnings), []
    return found.value, ReadingFindings(found.problems), warnings


async def dry_run(request: Request, api: Api) -> HTTPResponse:
    """What a request would be answered with just now, and why; refused as the request itself would be."""
    asked, findings, warnings = _read_request(request)
    found = await api.services.service_provider.try_out(
        asked, findings, reach=reach_of(request), client=caller_of(request).owner or ""
    )
    chosen, match, reached = found.chosen, found.match, found.reached
    return json_reply(
        {
            "compute_provider_addr": chosen.payee or chosen.peer_id,
            "compute_provider_id": chosen.peer_id,
            "estimated_price": float(chosen.price),
            "candidates": [
                {
                    "peer_id": candidate.peer_id,
                    "price": float(candidate.price),
                    "chosen": candidate is chosen,
                    "round_trip_ms": _milliseconds(reached.seconds.get(candidate.peer_id)),
                    "trouble": reached.troubles.get(candidate.peer_id, ""),
                }
                for candidate in match.candidates
            ],
            "refused": match.refused,
            "refused_count": match.refused_count,
            "unseen_count": match.unseen_count,
            "warnings": _findings(warnings),
        }
    )


def _findings(found: Findings) -> list[Finding]:
    return [Finding(pointer=pointer, detail=what) for pointer, what in found]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


async def show_job(request: Request, api: Api) -> HTTPResponse:
    return json_reply(job_answer(await _row(request, api), request, api))


async def _row(request: Request, api: Api) -> JobRow:
    """Of the job in the path, with all that was recorded before. Raises NotFound."""
    job_id = checked_job_id(request.match_info["job_id"])
    views = await views_at(request, api)
    row = await views.get(_JOBS, job_id)
    if row is None:
        raise NotFound(f"no job {job_id} here{' then' if query(request, 'as_of') else ''}")
    return row


async def history(request: Request, api: Api) -> HTTPResponse:
    """{"items", "next_token"}: every event of the job on this node, as the log has it, personal fields open; those
    up to `as_of`."""
    row = await _row(request, api)
    until = request.ctx.position if query(request, "as_of") else LARGEST
    after, limit = query_int(request, "after", 0), query_int(request, "limit", LARGEST_PAGE, LARGEST_PAGE, lowest=1)
    found: list[Recorded] = []
    for stream in streams_of_job(row.job_id):
        read = await api.services.log.read(after, limit + 1, stream=stream)
        found += (recorded for recorded in read if recorded.position <= until)
    found.sort(key=lambda recorded: recorded.position)
    shown = found[:limit]
    return json_reply(
        {
            "items": [_event(recorded) for recorded in shown],
            "next_token": str(shown[-1].position) if len(found) > limit else "",
        }
    )


def _event(recorded: Recorded) -> dict[str, Any]:
    return {
        "position": recorded.position,
        "time": iso(recorded.time),
        "topic": recorded.topic,
        "schema_version": recorded.schema_version,
        "aggregate_id": recorded.originator_id,
        "aggregate_version": recorded.originator_version,
        "event_id": recorded.event_id,
        "causation_id": recorded.causation_id,
        "correlation_id": recorded.correlation_id,
        "traceparent": recorded.traceparent,
        "hash": recorded.hash.hex(),
        "data": msgspec.Raw(open_data(recorded)),
    }


async def terminate(request: Request, api: Api) -> HTTPResponse:
    """Of either role: our own job, or one that runs here for another peer. 409 when it is over."""
    job_id = checked_job_id(request.match_info["job_id"])
    reason = parse(request.body, TerminateBody).reason if request.body else ""
    reason = await stop_one(api, job_id, reason)
    return json_reply({"message": f"job {job_id} is told to stop", "job_id": job_id, "reason": reason})


_JOB_TAG = ("jobs",)
_STRICT = (Parameter("strict", "Treat warnings, such as of unknown keys and likely mistakes, as errors.", FLAG),)
_TERMINATE: dict[str, Any] = {
    "body": TerminateBody,
    "body_optional": True,
    "body_example": {"reason": "wrong input data"},
    "answer": answers.Terminating,
    "answer_example": {
        "message": f"job {examples.JOB_ID} is told to stop", "job_id": examples.JOB_ID, "reason": "wrong input data",
    },
    "errors": (400, 404, 409),
    "tags": _JOB_TAG,
}  # fmt: skip

ROUTES = (
    Route(
        "POST", "/run/request-service", request_service, "Ask for a job to be run.", ServiceRequest,
        query=_STRICT,
        body_example=examples.SERVICE_REQUEST, answer=answers.QuoteAnswer, answer_example=examples.QUOTE,
        errors=(400, 404), tags=("run",),
        description="Answers with a price and the provider that would run it. Pay, then report the payment as "
        "`send-status` on the websocket `/run/deploy`. A 404 says of each candidate why not.",
        needs=Need.ASK_FOR_JOBS,
    ),
    Route(
        "POST", "/run/request-service/dry-run", dry_run, "Who would run a job, for how much, and why.", ServiceRequest,
        query=_STRICT,
        body_example=examples.SERVICE_REQUEST, answer=answers.DryRun, answer_example=examples.DRY_RUN,
        errors=(400, 404), tags=("run",),
        description="Nothing is recorded, held or promised. What can't be run is refused as by `/run/request-service`.",
        needs=Need.ASK_FOR_JOBS,
    ),
    Route(
        "GET", "/jobs/<job_id>", show_job, "One job.", query=(AS_OF,), answer=answers.JobDetail,
        answer_example=examples.JOB | {"timeline": [examples.STEP]}, errors=(400, 404), tags=_JOB_TAG,
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/jobs/<job_id>/history", history, "A job's events on this node, as the log has them.",
        query=(
            Parameter("after", "Only events after this position.", whole(LARGEST)),
            Parameter("limit", "Most events in the answer.", whole(LARGEST_PAGE, lowest=1, default=LARGEST_PAGE)),
            AS_OF,
        ),
        answer=answers.EventPage, answer_example={"items": [examples.EVENT], "next_token": ""}, errors=(400, 404),
        tags=_JOB_TAG,
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/jobs/<job_id>/logs", logs, "A job's output.",
        query=(
            Parameter("token", "The job's token, from its log_url.", example="c2" * 16),
            Parameter("after", "Only lines behind this one.", whole(LARGEST)),
            Parameter("stream", "Only this stream.", choice("stdout", "stderr")),
            Parameter("follow", "Stay until the job ends.", FLAG),
        ),
        media={TEXT_MEDIA: {"type": "string"}, NDJSON: answers.OutputLineAnswer},
        answer_example="first line\nsecond line\n", errors=(400, 403, 404), stream=True, tags=_JOB_TAG,
        description="Text, or with `Accept: application/x-ndjson` one JSON object a line.",
        needs=Need.NOTHING,
    ),
    Route("POST", "/jobs/<job_id>/terminate", terminate, "End a job.", **_TERMINATE, needs=Need.STEER_JOBS),
    Route("POST", "/jobs/<job_id>/stop", terminate, "End a job: the same.", **_TERMINATE, needs=Need.STEER_JOBS),
)  # fmt: skip
