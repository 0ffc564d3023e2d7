"""REST of a job's record: what was asked for, so that it can be sent again, and whether what is kept of it verifies."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.answers import JobId, Time
from dms.adapters.http.replies import checked_job_id, iso, json_reply, query_bool
from dms.adapters.http.routes import FLAG, Api, Parameter, Route
from dms.application.records.verification import Result, Verification
from dms.domain.access import Need
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.domain.request_again import is_erased, request_again
from dms.errors import Conflict, NotFound


class RequestAnswer(Struct, frozen=True, kw_only=True):
    """What a job was asked for with. `request` is a body of `/run/request-service`."""

    job_id: JobId
    request: Annotated[dict[str, Any], Meta(description="to be sent again, as it is or with changes")]
    secrets: Annotated[list[str], Meta(description="variables whose values are not kept: set params.secret_env anew")]
    left_out: Annotated[
        list[str], Meta(description="JSON pointers of fields that tell of a person, and come with personal=true")
    ]


class CheckAnswer(Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: Annotated[
        str, Meta(description="history, provider (its signatures), output, or witnesses (peers' signatures)")
    ]
    result: Annotated[Result, Meta(description="open: there is nothing yet that could tell")]
    detail: Annotated[str, Meta(description="what was found, in words")]


class VerificationAnswer(Struct, frozen=True, kw_only=True):
    """Whether what this node has of a job is what was recorded."""

    job_id: JobId
    result: Annotated[Result, Meta(description="the worst of the checks' results")]
    position: Annotated[int, Meta(description="of the job's newest event when it was looked at; 0: none could be read")]
    events: Annotated[int, Meta(description="how many events the job has here")]
    checked_at: Annotated[Time | None, Meta(description="when it was looked at")]
    checks: Annotated[list[CheckAnswer], Meta(description="what was looked at")]


async def show_request(request: Request, api: Api) -> HTTPResponse:
    """409 on a node that did not ask for it, and when it was erased."""
    job_id = checked_job_id(request.match_info["job_id"])
    log, personal = api.services.log, query_bool(request, "personal")
    job = log.load(Job, job_id)
    if job is None or job.request is None:
        if log.load(Deployment, job_id) is None:
            raise NotFound(f"no job {job_id} here")
        raise Conflict(f"job {job_id} was not asked for by this node: only its requester can run it again")
    if is_erased(job.request):
        raise Conflict(f"what job {job_id} was asked with was erased; see nunet erasure list")
    again = request_again(job.request, personal=personal)
    return json_reply(
        RequestAnswer(job_id=job_id, request=again.request, secrets=list(again.secrets), left_out=list(again.left_out))
    )


async def show_verification(request: Request, api: Api) -> HTTPResponse:
    return json_reply(_answer(await api.services.verifier.of(checked_job_id(request.match_info["job_id"]))))


def _answer(found: Verification) -> VerificationAnswer:
    return VerificationAnswer(
        job_id=found.job_id,
        result=found.result,
        position=found.position,
        events=found.events,
        checked_at=iso(found.checked_at),
        checks=[CheckAnswer(name=one.name, result=one.result, detail=one.detail) for one in found.checks],
    )


_AGAIN = {name: value for name, value in examples.SERVICE_REQUEST.items() if name != "tx_hash"}
ROUTES = (
    Route(
        "GET", "/jobs/<job_id>/request", show_request, "What a job was asked for with, to be sent again.",
        query=(Parameter("personal", "With the fields that tell of a person: image, arguments, wallet.", FLAG),),
        answer=RequestAnswer,
        answer_example={
            "job_id": examples.JOB_ID, "request": _AGAIN, "secrets": ["API_KEY"], "left_out": [],
        },
        errors=(400, 404, 409), tags=("jobs",),
        description="On the node that asked for it. Without the payment, and without the values of secret variables.",
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/jobs/<job_id>/verification", show_verification, "Whether the record of a job verifies.",
        answer=VerificationAnswer,
        answer_example={
            "job_id": examples.JOB_ID, "result": "verified", "position": 17, "events": 12,
            "checked_at": examples.TIME,
            "checks": [
                {"name": "history", "result": "verified", "detail": "12 events fit their hashes"}
            ],
        },
        errors=(404,), tags=("jobs",),
        description="Of either role: its events against their hashes, the provider's signatures, the output against "
        "what was sealed, and whether peers have signed this log since. It is looked at anew when something of the job "
        "changes, and every ten minutes. `nunet audit verify` recomputes the whole chain.",
        needs=Need.SEE_JOBS,
    ),
)  # fmt: skip
