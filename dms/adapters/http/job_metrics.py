"""REST of the figures that jobs print."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.answers import JobId, Time
from dms.adapters.http.examples import JOB_ID
from dms.adapters.http.replies import checked_job_id, json_reply, query
from dms.adapters.http.routes import Api, Parameter, Route
from dms.domain.access import Need
from dms.domain.bounds import time_text
from dms.domain.metrics import Series
from dms.errors import NotFound
from projections.jobs import Jobs

_JOBS = Jobs()


class MetricPoint(Struct, frozen=True, kw_only=True):
    """One value."""

    step: Annotated[int, Meta(description="as the job gave it, else its number in the series")]
    value: Annotated[float, Meta(description="what the job printed")]
    time: Time


class MetricSeries(Struct, frozen=True, kw_only=True):
    """The values of one name, in the order printed."""

    name: Annotated[str, Meta(description="as the job named it")]
    count: Annotated[int, Meta(description="how many the job printed; of many, evenly spread ones are kept")]
    points: Annotated[list[MetricPoint], Meta(description="those that are kept, the last one always")]


class MetricsAnswer(Struct, frozen=True, kw_only=True):
    """The figures of one job."""

    job_id: JobId
    series: Annotated[list[MetricSeries], Meta(description="one for each name")]
    left_out: Annotated[int, Meta(description="names that are not kept: there are too many")]


async def metrics(request: Request, api: Api) -> HTTPResponse:
    job_id = checked_job_id(request.match_info["job_id"])
    await api.settled()
    if await api.views.get(_JOBS, job_id) is None:
        raise NotFound(f"no job {job_id} here")
    found = await api.services.job_metrics.of(job_id)
    wanted = query(request, "name")
    names = [name for name in found.series if wanted in ("", name)]
    series = [_series(name, found.series[name]) for name in names]
    return json_reply(MetricsAnswer(job_id=job_id, series=series, left_out=found.left_out))


def _series(name: str, series: Series) -> MetricSeries:
    points = [MetricPoint(step=p.step, value=p.value, time=time_text(p.time_ns)) for p in series.points]
    return MetricSeries(name=name, count=series.count, points=points)


_TIME = "2026-01-31T12:00:00.000000+00:00"
ROUTES = (
    Route(
        "GET", "/jobs/<job_id>/metrics", metrics, "Figures that a job prints.",
        query=(Parameter("name", "Only this one.", example="loss"),),
        answer=MetricsAnswer,
        answer_example={
            "job_id": JOB_ID, "left_out": 0,
            "series": [{"name": "loss", "count": 1, "points": [{"step": 100, "value": 0.25, "time": _TIME}]}],
        },
        errors=(400, 404), tags=("jobs",),
        description="A job prints lines such as `dms-metric loss=0.25 step=100`.",
        needs=Need.SEE_JOBS,
    ),
)  # fmt: skip
