"""REST of what the jobs that run on this machine use."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.answers import JobId, Time
from dms.adapters.http.examples import JOB_ID
from dms.adapters.http.replies import checked_job_id, iso, json_reply
from dms.adapters.http.routes import Api, Route
from dms.domain.deployment import Deployment
from dms.errors import NotFound


class GpuUsage(Struct, frozen=True, kw_only=True):
    """One GPU of the job's; jobs may share it."""

    uuid: Annotated[str, Meta(description="the driver's id of it")]
    utilization_percent: Annotated[int | None, Meta(description="%; null where the card does not tell")]
    memory_mb: Annotated[int, Meta(description="MB in use")]


class UsageSample(Struct, frozen=True, kw_only=True):
    """What a job used at a moment."""

    time: Time
    cpu_cores: Annotated[float | None, Meta(description="cores on average since the sample before; null for the first")]
    memory_mb: Annotated[int, Meta(description="MB in use")]
    gpus: Annotated[list[GpuUsage], Meta(description="each of its GPUs")]


class UsageAnswer(Struct, frozen=True, kw_only=True):
    """What a job used while it ran: of the last hour, and since the daemon started."""

    job_id: JobId
    samples: Annotated[list[UsageSample], Meta(description="one every ten seconds, oldest first")]


async def usage(request: Request, api: Api) -> HTTPResponse:
    job_id = checked_job_id(request.match_info["job_id"])
    if api.services.log.load(Deployment, job_id) is None:
        raise NotFound(f"no job {job_id} runs or ran here for another node")
    samples = [
        UsageSample(
            time=iso(sample.time_us) or "",
            cpu_cores=None if sample.cpu_cores is None else round(sample.cpu_cores, 3),
            memory_mb=sample.memory_mb,
            gpus=[
                GpuUsage(uuid=gpu.uuid, utilization_percent=gpu.utilization_percent, memory_mb=gpu.memory_mb)
                for gpu in sample.gpus
            ],
        )
        for sample in api.services.compute_provider.usage.of(job_id)
    ]
    return json_reply(UsageAnswer(job_id=job_id, samples=samples))


_SAMPLE = {
    "time": "2026-01-31T12:00:00.000000+00:00", "cpu_cores": 1.25, "memory_mb": 512,
    "gpus": [{"uuid": "GPU-1", "utilization_percent": 90, "memory_mb": 4000}],
}  # fmt: skip
ROUTES = (
    Route(
        "GET", "/deployments/<job_id>/usage", usage, "CPU, memory and GPUs that a job on this machine uses.",
        answer=UsageAnswer, answer_example={"job_id": JOB_ID, "samples": [_SAMPLE]}, errors=(404,), tags=("jobs",),
        description="Of a job that this machine runs for another node; its requester is not told.",
    ),
)  # fmt: skip
