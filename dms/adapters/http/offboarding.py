"""REST of leaving the network: what it means, told beforehand, and doing it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.answers import JobId, Time
from dms.adapters.http.replies import iso, json_reply, query_bool
from dms.adapters.http.routes import FLAG, Api, Parameter, Route
from dms.adapters.http.strict_json import parse
from dms.domain.access import Need
from dms.domain.deployment import Deployment
from dms.domain.reward import RewardType
from dms.errors import Conflict
from projections.transactions import TransactionRow, Transactions

_TRANSACTIONS = Transactions()
_ROWS_A_READ = 1000
_EARNING = [RewardType.WITHDRAW.value, RewardType.DISTRIBUTE_50.value, RewardType.DISTRIBUTE_75.value]


class OffboardBody(Struct, frozen=True):
    force: bool = False


class RunningJob(Struct, frozen=True, kw_only=True):
    """A job that runs here for another node."""

    job_id: JobId
    peer: Annotated[str, Meta(description="peer id of who asked for it")]
    ends_at: Annotated[Time | None, Meta(description="when it ends at the latest; null while it has not begun")]


class Unclaimed(Struct, frozen=True, kw_only=True):
    """Rewards of jobs that ran here."""

    jobs: Annotated[int, Meta(description="how many jobs' rewards were not claimed yet")]
    ntx: Annotated[str, Meta(description="of them together, NTX, decimal text")]


class OffboardForecast(Struct, frozen=True, kw_only=True):
    """What offboarding would do now."""

    onboarded: Annotated[bool, Meta(description="whether there is anything to offboard")]
    needs_force: Annotated[bool, Meta(description="whether it is refused without force, since jobs run")]
    running_jobs: Annotated[list[RunningJob], Meta(description="they go on to their end, also with force")]
    kept_places: Annotated[int, Meta(description="jobs that are not paid yet and have a place kept; they are refused")]
    unclaimed: Annotated[Unclaimed, Meta(description="rewards that were not claimed yet")]
    means: Annotated[list[str], Meta(description="the same in words, and what is kept")]


async def forecast(_request: Request, api: Api) -> HTTPResponse:
    device = api.services.device
    await api.settled()
    jobs = [_running(api, job_id) for job_id in device.reservations]
    count, ntx = 0, Decimal(0)
    async for row in _unclaimed(api):
        count, ntx = count + 1, ntx + Decimal(row.to_provider)
    unclaimed = Unclaimed(jobs=count, ntx=f"{ntx:f}")
    return json_reply(
        OffboardForecast(
            onboarded=device.state.onboarded,
            needs_force=bool(jobs),
            running_jobs=jobs,
            kept_places=len(device.holds),
            unclaimed=unclaimed,
            means=_means(len(jobs), len(device.holds), unclaimed),
        )
    )


def _running(api: Api, job_id: str) -> RunningJob:
    deployment = api.services.log.load(Deployment, job_id)
    peer, stops_at = ("", 0) if deployment is None else (deployment.service_provider, deployment.stops_at)
    return RunningJob(job_id=job_id, peer=peer, ends_at=iso(stops_at))


async def _unclaimed(api: Api) -> AsyncIterator[TransactionRow]:
    after = ""
    while True:
        page = await api.views.page(
            _TRANSACTIONS, limit=_ROWS_A_READ, after=after, where={"transaction_type": _EARNING}
        )
        for row in page.rows:
            if row.role == "compute provider" and row.to_provider and not row.claimed:
                yield row
        if not page.next:
            return
        after = page.next


def _means(jobs: int, places: int, unclaimed: Unclaimed) -> list[str]:
    found = ["the network is told that this machine offers nothing any more, and new requests are refused"]
    if jobs:
        found.append(f"{jobs} job(s) run here and go on to their end; it needs force, or wait for them")
    if places:
        found.append(f"{places} job(s) that are not paid yet lose the place that is kept for them")
    if unclaimed.jobs:
        found.append(f"{unclaimed.ntx} NTX of {unclaimed.jobs} job(s) are not claimed yet; that can be done later too")
    return [*found, "the history, the peer id with its key and the lists of `nunet policy` are kept"]


async def offboard(request: Request, api: Api) -> HTTPResponse:
    """force: in the query, as the original reads it, or in the body, as its command line sends it."""
    if query_bool(request, "forget_identity"):
        raise Conflict(
            "the identity can't be forgotten while the DMS runs: stop it, then: nunet offboard --forget-identity"
        )
    in_body = parse(request.body, OffboardBody).force if request.body else False
    forced = query_bool(request, "force") or in_body
    await api.services.device.offboard(forced)
    return json_reply({"message": "Successfully Offboarded", "forced": forced})


_TAGS = ("onboarding",)
_OFFBOARD: dict[str, Any] = {
    "body": OffboardBody,
    "query": (
        Parameter("force", "Also while jobs run here; they go on.", FLAG),
        Parameter("forget_identity", "Refused while the DMS runs: the answer says how it is done.", FLAG),
    ),
    "body_optional": True,
    "body_example": {"force": False},
    "answer": answers.Offboarded,
    "answer_example": {"message": "Successfully Offboarded", "forced": False},
    "errors": (400, 409),
    "tags": _TAGS,
    "needs": Need.STEER_PROVIDER,
}
_FORECAST: dict[str, Any] = {
    "onboarded": True, "needs_force": True, "kept_places": 0, "unclaimed": {"jobs": 2, "ntx": "0.4"},
    "running_jobs": [
        {"job_id": examples.JOB_ID, "peer": examples.PEER_ID, "ends_at": "2026-01-31T12:00:00.000000+00:00"},
    ],
    "means": ["1 job(s) run here and go on to their end; it needs force, or wait for them"],
}  # fmt: skip
ROUTES = (
    Route(
        "GET", "/onboarding/offboard", forecast, "What leaving the network would mean now.", answer=OffboardForecast,
        answer_example=_FORECAST, tags=_TAGS,
        needs=Need.SEE_PROVIDER,
    ),
    Route("DELETE", "/onboarding/offboard", offboard, "Leave the network.", **_OFFBOARD),
    Route("POST", "/onboarding/offboard", offboard, "Leave the network.", **_OFFBOARD),
)  # fmt: skip
