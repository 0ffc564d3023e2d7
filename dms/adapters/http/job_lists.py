"""REST of many jobs: the list with its filters and orders, what they come to, and stopping several."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.access import caller_of
from dms.adapters.http.answers import JobId
from dms.adapters.http.gate import base_url
from dms.adapters.http.past import AS_OF, moment_of, views_at
from dms.adapters.http.replies import (
    dated,
    json_reply,
    list_reply,
    query,
    query_choice,
    query_int,
    query_time,
)
from dms.adapters.http.routes import Api, Parameter, Route, choice, whole
from dms.adapters.http.strict_json import parse
from dms.domain.access import Need
from dms.domain.deployment import Deployment, Fault
from dms.domain.job import Job
from dms.errors import Conflict, DmsError, InvalidInput
from projections.base import KEY, Begins, Between, Condition, Contains, Where
from projections.job_columns import COST, TO_CLAIM, ntx, searchable, sum_in_order
from projections.jobs import OPEN_STATUSES, STATUSES, JobRow, Jobs

_JOBS = Jobs()
PAGE, LARGEST_PAGE = 50, 1000
LARGEST_OFFSET = 10_000_000
LONGEST_SEARCH = 200
MOST_STOPPED = 1000
STOPPED_AT_ONCE = 50
DAY_US = 24 * 3600 * 1_000_000
SORTS = ("requested_at", "ended_at", "price", "status")
ROLES = {"sp": "service provider", "cp": "compute provider"}
TERMINATED = "terminated by its owner"
TERMINATED_BY_PROVIDER = "terminated by its compute provider"
_ID_BEGINS = re.compile("[0-9a-f-]{0,36}")
_TOLD_TO_STOP = (Job.TerminationRequested.TOPIC, Deployment.StopRequested.TOPIC)


# --- which jobs --------------------------------------------------------------------------------------
def wanted_jobs(request: Request) -> dict[str, Condition]:
    """The filters that lists and sums of jobs share. Raises InvalidInput."""
    where: dict[str, Condition] = {}
    if begins := _beginning(query(request, "id")):
        where[KEY] = Begins(begins)
    if status := query(request, "status"):
        where["status"] = _statuses(status)
    if role := query(request, "role"):
        where["role"] = checked_role(role)
    if peer := query(request, "peer"):
        where["peer"] = peer
    if image := query(request, "image"):
        where["image"] = Begins(image.removesuffix("*")) if image.endswith("*") else image
    if text := query(request, "q"):
        where["searched"] = Contains(_search(text))
    if period := between(request):
        where["requested_at"] = period
    return where | seen_by(request, where.get("role"))


def seen_by(request: Request, role: Condition | None = None) -> dict[str, Condition]:
    """The caller's own jobs, where it sees no others. role: that is asked for."""
    caller = caller_of(request)
    if caller.owner is None and not caller.only_deployments:
        return {}
    own = ROLES["cp" if caller.only_deployments else "sp"]
    seen: dict[str, Condition] = {"role": own if role in (None, own) else ()}
    return seen | ({} if caller.owner is None else {"client": caller.owner})


def between(request: Request) -> Between | None:
    """since, until: Unix µs, from the one on and before the other. Raises InvalidInput."""
    since, until = query_time(request, "since"), query_time(request, "until")
    if since and until and since > until:
        what = "since is later than until"
        raise InvalidInput(what, [("?since", what)])
    return Between(least=since or None, below=until or None) if since or until else None


def checked_role(text: str) -> str:
    """Raises InvalidInput."""
    role = ROLES.get(text.casefold(), text)
    if role not in ROLES.values():
        raise InvalidInput(f"role is '{text[:64]}'; sp or cp", [("?role", "sp or cp")])
    return role


def _beginning(text: str) -> str:
    """Of job ids. Raises InvalidInput."""
    if not _ID_BEGINS.fullmatch(text):
        what = f"expected the beginning of a job id, got '{text[:64]}'"
        raise InvalidInput(f"query parameter id: {what}", [("?id", what)])
    return text


def _statuses(text: str) -> tuple[str, ...]:
    """Raises InvalidInput, naming those that there are."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for part in found:
        if part not in STATUSES:
            known = ", ".join(STATUSES)
            raise InvalidInput(f"status is '{part[:64]}'; one of {known}", [("?status", f"one of {known}")])
    return found


def _search(text: str) -> str:
    if len(text) > LONGEST_SEARCH:
        what = f"expected at most {LONGEST_SEARCH} characters, got {len(text)}"
        raise InvalidInput(f"query parameter q: {what}", [("?q", what)])
    return searchable(text)


# --- the list ----------------------------------------------------------------------------------------
async def list_jobs(request: Request, api: Api) -> HTTPResponse:
    """{"items", "next_token"}, newest first unless told otherwise; next_token goes into `after`, and is empty at the
    end."""
    where = wanted_jobs(request)
    limit = query_int(request, "limit", PAGE, LARGEST_PAGE, lowest=1)
    offset, after = query_int(request, "offset", 0, LARGEST_OFFSET), query(request, "after")
    if offset and after:
        what = "give one of offset and after: a page begins behind so many jobs, or behind the page before"
        raise InvalidInput(what, [("?offset", what)])
    order_by, order = query_choice(request, "sort", *SORTS), query_choice(request, "order", "asc", "desc")
    views = await views_at(request, api)
    page = await views.page(
        _JOBS,
        limit=limit,
        after=after,
        where=where,
        newest_first=order != "asc",
        order_by=order_by,
        offset=offset,
        counted=True,
    )
    rows = [job_answer(row, request, api) for row in page.rows]
    for row in rows:
        del row["timeline"]
    return list_reply({"items": rows, "next_token": page.next}, page.total)


def job_answer(row: JobRow, request: Request, api: Api) -> dict[str, Any]:
    shown = dated(msgspec.to_builtins(row))
    shown["log_url"] = f"{base_url(request)}{api.log_path(row.job_id)}"
    return shown


# --- what they come to -------------------------------------------------------------------------------
async def summary(request: Request, api: Api) -> HTTPResponse:
    """Of the jobs that the filters leave: how many in each state, what they cost and earned."""
    where = wanted_jobs(request)
    views = await views_at(request, api)
    position, now = request.ctx.position, await moment_of(request, api)
    groups = await views.totals(_JOBS, ("status", "role", "reward"), where, COST)
    failed = await views.totals(_JOBS, (), _failed_since(where, now - DAY_US))
    prices = await views.totals(_JOBS, ("price",), _own_open(where))
    by_status: dict[str, int] = {}
    for (status, _, _), (jobs, *_) in groups.items():
        by_status[status] = by_status.get(status, 0) + jobs
    return json_reply(
        answers.JobsSummary(
            position=position,
            total=sum(by_status.values()),
            by_status=by_status,
            failed_in_24_hours=failed.get((), (0,))[0],
            spent_ntx=_sum(groups, role=ROLES["sp"]),
            earned_ntx=_sum(groups, role=ROLES["cp"]),
            to_claim_ntx=_sum(groups, role=ROLES["cp"], reward=TO_CLAIM),
            open_ntx=sum_in_order({price: jobs for (price,), (jobs, *_) in prices.items()}),
        )
    )


def _failed_since(where: Where, time_us: int) -> dict[str, Condition]:
    return {**where, "status": _among(where, ("failed",)), "ended_at": Between(least=time_us)}


def _own_open(where: Where) -> dict[str, Condition]:
    own = where.get("role", ROLES["sp"]) == ROLES["sp"]
    return {**where, "role": ROLES["sp"], "status": _among(where, OPEN_STATUSES) if own else ()}


def _among(where: Where, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those states that the filters leave."""
    asked = where.get("status")
    return tuple(status for status in wanted if not isinstance(asked, tuple) or status in asked)


def _sum(groups: Mapping[tuple[Any, ...], tuple[int, ...]], *, role: str, reward: str = "") -> str:
    costs = [cost for (_, of, state), (_, *cost) in groups.items() if of == role and reward in ("", state)]
    return ntx(sum(thousands for thousands, _ in costs), sum(rest for _, rest in costs))


# --- stopping ----------------------------------------------------------------------------------------
class StopBody(Struct, frozen=True):
    job_ids: Annotated[tuple[JobId, ...], Meta(min_length=1, max_length=MOST_STOPPED)]
    reason: Annotated[str, Meta(max_length=1000)] = ""
    dry_run: bool = False


async def stop_one(api: Api, job_id: str, reason: str) -> str:
    """Of either role; the reason that was recorded. Raises NotFound, Conflict when it is over."""
    services = api.services
    if services.log.load(Job, job_id) is not None:
        reason = reason or TERMINATED
        await services.service_provider.terminate(job_id, reason)
    else:
        reason = reason or TERMINATED_BY_PROVIDER  # what the other side's user reads
        await services.compute_provider.stop(job_id, "compute provider", reason, Fault.PROVIDER)
    return reason


async def stop_several(request: Request, api: Api) -> HTTPResponse:
    """What became of each, or with dry_run what would."""
    body = parse(request.body, StopBody)
    job_ids = list(dict.fromkeys(body.job_ids))
    seen = seen_by(request)
    rows = await _rows(api, job_ids, seen)
    found = {job_id: _outlook(job_id, rows.get(job_id)) for job_id in job_ids}
    if not body.dry_run:
        ready = [job_id for job_id, told in found.items() if told.outcome == "would_stop"]
        for start in range(0, len(ready), STOPPED_AT_ONCE):
            some = ready[start : start + STOPPED_AT_ONCE]
            found |= zip(some, await asyncio.gather(*(_stop(api, job_id, body.reason) for job_id in some)), strict=True)
        rows = await _rows(api, job_ids, seen)
    shown = [
        msgspec.structs.replace(told, status=rows[job_id].status if job_id in rows else "")
        for job_id, told in found.items()
    ]
    return json_reply({"jobs": shown})


async def _rows(api: Api, job_ids: Sequence[str], seen: Where) -> dict[str, JobRow]:
    await api.settled()
    page = await api.views.page(_JOBS, limit=MOST_STOPPED, where={KEY: job_ids, **seen})
    return {row.job_id: row for row in page.rows}


def _outlook(job_id: str, row: JobRow | None) -> answers.StopOutcome:
    """What would become of it."""
    if row is None:
        return answers.StopOutcome(job_id=job_id, outcome="unknown", message="there is no such job here")
    if row.status not in ("requested", *OPEN_STATUSES):
        return answers.StopOutcome(job_id=job_id, outcome="over", message=f"it is over: {row.status}")
    if any(step.event in _TOLD_TO_STOP for step in row.timeline):
        return answers.StopOutcome(job_id=job_id, outcome="stopping_already", message="it was told to stop before")
    return answers.StopOutcome(job_id=job_id, outcome="would_stop", message=f"it is {row.status}, and would be stopped")


async def _stop(api: Api, job_id: str, reason: str) -> answers.StopOutcome:
    """One that can't be stopped keeps none of the others from it."""
    try:
        await stop_one(api, job_id, reason)
    except Conflict as error:
        return answers.StopOutcome(job_id=job_id, outcome="over", message=str(error))
    except DmsError as error:
        return answers.StopOutcome(job_id=job_id, outcome="failed", message=str(error))
    return answers.StopOutcome(job_id=job_id, outcome="stopping", message="it is told to stop")


# --- the routes --------------------------------------------------------------------------------------
_TAGS = ("jobs",)
_SOME_STATUSES = {"type": "string", "pattern": f"^$|^({'|'.join(STATUSES)})(,({'|'.join(STATUSES)}))*$"}
SINCE = Parameter("since", "Not before this time (ISO 8601).", example="2026-01-31T12:00:00Z")
UNTIL = Parameter("until", "Before this time (ISO 8601).", example="2026-02-01T12:00:00Z")
ROLE = Parameter("role", "As service provider or as compute provider.", choice("sp", "cp", *ROLES.values()))
PEER = Parameter("peer", "Peer id of the other side.")
_FILTERS = (
    Parameter("status", f"One or more, with commas between, of {', '.join(STATUSES)}.", _SOME_STATUSES,
              example="running,failed"),
    Parameter("id", "How the ids begin.", {"type": "string", "pattern": f"^{_ID_BEGINS.pattern}$"}, example="0199"),
    ROLE,
    PEER,
    Parameter("image", "The image's name; with * at its end, how it begins.", example="registry.example.com/ml/*"),
    Parameter("q", "Text in the id, the image, the peer or the reason; upper and lower case are the same.",
              {"type": "string", "maxLength": LONGEST_SEARCH}, example="memory"),
    Parameter("since", "Asked for at this time or later (ISO 8601).", example="2026-01-31T12:00:00Z"),
    Parameter("until", "Asked for before this time (ISO 8601).", example="2026-02-01T12:00:00Z"),
    AS_OF,
)  # fmt: skip

ROUTES = (
    Route(
        "GET", "/jobs", list_jobs, "Jobs of both roles, newest first.", counted=True,
        query=(
            *_FILTERS,
            Parameter("sort", "What they are in the order of; the id when absent.", choice(*SORTS)),
            Parameter("order", "Upwards or downwards; downwards when absent.", choice("asc", "desc")),
            Parameter("limit", "Most jobs in the answer.", whole(LARGEST_PAGE, lowest=1, default=PAGE)),
            Parameter("offset", "Pass over so many.", whole(LARGEST_OFFSET, default=0)),
            Parameter("after", "Continue after this one: a page's next_token."),
        ),
        answer=answers.JobPage, answer_example={"items": [examples.JOB], "next_token": ""}, errors=(400,), tags=_TAGS,
        description="`after` goes on where a page ended, also when jobs were added since; `offset` begins anywhere. "
        "By `ended_at`, jobs that are not over count as those that ended first.",
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/jobs/summary", summary, "How many jobs there are in each state, and what they come to.",
        query=_FILTERS, answer=answers.JobsSummary, errors=(400,), tags=_TAGS,
        answer_example={
            "position": 17, "total": 3, "by_status": {"running": 1, "completed": 2}, "failed_in_24_hours": 0,
            "spent_ntx": "0.05456", "earned_ntx": "0", "to_claim_ntx": "0", "open_ntx": "0.02728",
        },
        needs=Need.SEE_JOBS,
    ),
    Route(
        "POST", "/jobs/stop", stop_several, "End several jobs, or see what that would do.", StopBody,
        body_example={"job_ids": [examples.JOB_ID], "reason": "wrong input data", "dry_run": True},
        answer=answers.StopOutcomes, errors=(400,), tags=_TAGS,
        answer_example={
            "jobs": [{
                "job_id": examples.JOB_ID, "status": "running", "outcome": "would_stop",
                "message": "it is running, and would be stopped",
            }],
        },
        description="Only the jobs that are named. Each has its own outcome: one that can't be stopped keeps none "
        "of the others from it.",
        needs=Need.STEER_JOBS,
    ),
)  # fmt: skip
