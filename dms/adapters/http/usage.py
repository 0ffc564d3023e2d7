"""REST of what this machine and the jobs that run on it use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.answers import JobId, Time
from dms.adapters.http.examples import JOB_ID
from dms.adapters.http.replies import checked_job_id, iso, json_reply, query, query_time
from dms.adapters.http.routes import OPTIONAL_JOB_ID, Api, Parameter, Route
from dms.application.deployments.usage import Sample, Used
from dms.domain.access import Need
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


class DeviceUsage(Struct, frozen=True, kw_only=True):
    """What this machine and the jobs on it used in the last hour, and since the daemon started."""

    every_seconds: Annotated[float, Meta(description="seconds from one sample to the next")]
    cores: Annotated[int, Meta(description="how many the machine has")]
    memory_mb: Annotated[int, Meta(description="MB that the machine has")]
    machine: Annotated[list[UsageSample], Meta(description="of all that runs on it, oldest first; no job's own")]
    jobs: Annotated[list[UsageAnswer], Meta(description="those that run, and that ended in the last hour")]


class UsageNews(Struct, frozen=True, kw_only=True):
    """A new sample."""

    job_id: Annotated[JobId | None, Meta(description="null for the whole machine's")]
    sample: Annotated[UsageSample, Meta(description="what was used")]


def usage_news(used: Used) -> UsageNews:
    return UsageNews(job_id=used.job_id or None, sample=_shown(used.sample))


async def usage_of_job(request: Request, api: Api) -> HTTPResponse:
    return json_reply(_job(api, _asked_job(request.match_info["job_id"], api), 0))


async def usage_of_device(request: Request, api: Api) -> HTTPResponse:
    """Of one job alone when the query names it."""
    since = query_time(request, "since")
    watch, capacity = api.services.compute_provider.usage, api.services.device.capacity()
    job_id = query(request, "job_id")
    jobs = [_asked_job(job_id, api)] if job_id else watch.jobs()
    answer = DeviceUsage(
        every_seconds=watch.every_seconds,
        cores=capacity.cores,
        memory_mb=capacity.memory_mb,
        machine=[] if job_id else _since(watch.of_machine(), since),
        jobs=[],
    )
    for found in jobs:
        answer.jobs.append(_job(api, found, since))
        await asyncio.sleep(0)  # there may be 100 of them
    return json_reply(answer)


def _asked_job(text: str, api: Api) -> str:
    """Raises NotFound."""
    job_id = checked_job_id(text)
    if api.services.log.load(Deployment, job_id) is None:
        raise NotFound(f"no job {job_id} runs or ran here for another node")
    return job_id


def _job(api: Api, job_id: str, since_us: int) -> UsageAnswer:
    return UsageAnswer(job_id=job_id, samples=_since(api.services.compute_provider.usage.of(job_id), since_us))


def _since(samples: Sequence[Sample], since_us: int) -> list[UsageSample]:
    return [_shown(sample) for sample in samples if sample.time_us >= since_us]


def _shown(sample: Sample) -> UsageSample:
    return UsageSample(
        time=iso(sample.time_us) or "",
        cpu_cores=None if sample.cpu_cores is None else round(sample.cpu_cores, 3),
        memory_mb=sample.memory_mb,
        gpus=[
            GpuUsage(uuid=gpu.uuid, utilization_percent=gpu.utilization_percent, memory_mb=gpu.memory_mb)
            for gpu in sample.gpus
        ],
    )


_SAMPLE = {
    "time": "2026-01-31T12:00:00.000000+00:00", "cpu_cores": 1.25, "memory_mb": 512,
    "gpus": [{"uuid": "GPU-1", "utilization_percent": 90, "memory_mb": 4000}],
}  # fmt: skip
_JOB: dict[str, Any] = {"job_id": JOB_ID, "samples": [_SAMPLE]}
ROUTES = (
    Route(
        "GET", "/device/usage", usage_of_device, "CPU, memory and GPUs that this machine and its jobs use.",
        query=(
            Parameter("since", "Not before this time (ISO 8601).", example="2026-01-31T12:00:00Z"),
            Parameter("job_id", "Of this job alone.", OPTIONAL_JOB_ID),
        ),
        answer=DeviceUsage, errors=(400, 404), tags=("device",),
        answer_example={
            "every_seconds": 10.0, "cores": 4, "memory_mb": 16000, "machine": [_SAMPLE], "jobs": [_JOB],
        },
        description="Of the last hour, in memory alone: a restart begins anew. Of jobs it tells this machine's owner "
        "alone, not who asked for them.",
        needs=Need.SEE_PROVIDER,
    ),
    Route(
        "GET", "/deployments/<job_id>/usage", usage_of_job, "CPU, memory and GPUs that a job on this machine uses.",
        answer=UsageAnswer, answer_example=_JOB, errors=(404,), tags=("jobs",),
        description="Of a job that this machine runs for another node; its requester is not told.",
        needs=Need.SEE_PROVIDER,
    ),
)  # fmt: skip
