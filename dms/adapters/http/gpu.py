"""REST of the GPUs: what they do now, what of them is offered, the images that use them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.access import caller_of
from dms.adapters.http.replies import json_reply
from dms.adapters.http.routes import Api, Route
from dms.application.device.ml_images import PROJECT, PYTORCH, GpuCheck, ImageState
from dms.application.ports.images import PullProgress
from dms.domain.access import Need
from dms.domain.gpus import vram_offered, vram_total

NDJSON = "application/x-ndjson"
SEND_SECONDS = 60.0  # a reader that takes nothing for so long is cut
_TAGS = ("gpu",)
_encoder = msgspec.json.Encoder()
_Megabytes = Annotated[int, Meta(ge=0, description="MB (MiB, as the original counts)")]


class GpuStatus(Struct, frozen=True, kw_only=True):
    """One GPU now. present: false for a card that the driver lost while a job holds it: its figures are then
    of when it was seen last. null: this card or driver does not tell. jobs: who holds it; several when they share; none
    is told to callers who may not see the provider."""

    name: str
    uuid: str
    vendor: str
    present: bool
    utilization_percent: int | None
    memory_total_mb: _Megabytes
    memory_used_mb: _Megabytes | None
    memory_free_mb: _Megabytes
    temperature_celsius: int | None
    power_watts: float | None
    jobs: tuple[str, ...]


class GpuOffer(Struct, frozen=True, kw_only=True):
    """What is offered of one GPU. free_vram_mb: to the next job. taken: nothing of it can be had. shared:
    only a job that shares can have what is free."""

    name: str
    uuid: str
    total_vram_mb: _Megabytes
    free_vram_mb: _Megabytes
    taken: bool
    shared: bool


class GpuCapacity(Struct, frozen=True, kw_only=True):
    """detected: what the driver has now. offered: what is onboarded of it. hindrance: why nothing is offered
    although there is something."""

    detected: int
    offered: tuple[GpuOffer, ...]
    total_vram_mb: _Megabytes
    onboarded_vram_mb: _Megabytes
    free_vram_mb: _Megabytes
    hindrance: str


async def status(request: Request, api: Api) -> HTTPResponse:
    """Read from the driver for this answer."""
    device = api.services.device
    readings = await device.see_gpus()
    jobs = device.reservations.gpu_jobs()
    told = jobs if caller_of(request).meets(Need.SEE_PROVIDER) else {}
    found = [
        GpuStatus(
            name=reading.name,
            uuid=reading.uuid,
            vendor=reading.vendor,
            present=True,
            utilization_percent=reading.utilization_percent,
            memory_total_mb=reading.total_vram_mb,
            memory_used_mb=reading.used_vram_mb,
            memory_free_mb=reading.free_vram_mb,
            temperature_celsius=reading.temperature_celsius,
            power_watts=reading.power_watts,
            jobs=told.get(reading.uuid, ()),
        )
        for reading in readings
    ]
    there = {reading.uuid for reading in readings}
    lost = [gpu for gpu in device.state.total.gpus if gpu.uuid in jobs and gpu.uuid not in there]
    found += [
        GpuStatus(
            name=gpu.name,
            uuid=gpu.uuid,
            vendor="nvidia",
            present=False,
            utilization_percent=None,
            memory_total_mb=gpu.total_vram_mb,
            memory_used_mb=None,
            memory_free_mb=0,
            temperature_celsius=None,
            power_watts=None,
            jobs=told.get(gpu.uuid, ()),
        )
        for gpu in lost
    ]
    return json_reply(found)


async def capacity(_request: Request, api: Api) -> HTTPResponse:
    device = api.services.device
    readings = await device.see_gpus()
    recorded, left = device.state.total.gpus, device.gpus_left()
    hindrance = device.gpu_hindrance
    if readings and not device.state.onboarded:
        hindrance = "the machine is not onboarded"
    return json_reply(
        GpuCapacity(
            detected=len(readings),
            offered=tuple(msgspec.convert(gpu, GpuOffer, from_attributes=True) for gpu in left),
            total_vram_mb=vram_total(recorded),
            onboarded_vram_mb=vram_offered(recorded),
            free_vram_mb=vram_offered(left),
            hindrance=hindrance,
        )
    )


async def check(_request: Request, api: Api) -> HTTPResponse:
    """Takes as long as the container does, at most two minutes. 404 without GPU or image, 409 when all GPUs are in
    use, 422 when the engine can't give a container its GPU."""
    return json_reply(await api.services.ml_images.check_cuda())


async def images(_request: Request, api: Api) -> HTTPResponse:
    return json_reply(list(await api.services.ml_images.listed()))


async def fetch_images(request: Request, api: Api) -> HTTPResponse | None:
    """JSON lines, live. Who closes the connection ends it."""
    await api.services.ml_images.listed()  # what is wrong from the start is an answer of its own
    response = await request.respond(content_type=NDJSON)
    if response is None:
        return None
    async with aclosing(api.services.ml_images.fetch()) as steps:
        async for step in steps:
            async with asyncio.timeout(SEND_SECONDS):
                await response.send(_encoder.encode(step) + b"\n")
    await response.eof()
    return None


_IMAGE = f"{PROJECT}/{PYTORCH}"
_UUID = "GPU-5f3c1c6e-7d0a-4d5c-9f1b-2f6a8c1d0e42"
_STATUS: dict[str, Any] = {
    "name": "NVIDIA RTX A4000", "uuid": _UUID, "vendor": "nvidia", "present": True, "utilization_percent": 71,
    "memory_total_mb": 16376, "memory_used_mb": 9012, "memory_free_mb": 7364, "temperature_celsius": 64,
    "power_watts": 118.4, "jobs": ["0198c0de-1c00-7000-8000-0000000000a1"],
}  # fmt: skip
_CAPACITY: dict[str, Any] = {
    "detected": 1, "total_vram_mb": 16376, "onboarded_vram_mb": 16063, "free_vram_mb": 16063, "hindrance": "",
    "offered": [
        {"name": "NVIDIA RTX A4000", "uuid": _UUID, "total_vram_mb": 16376, "free_vram_mb": 16063, "taken": False,
         "shared": False},
    ],
}  # fmt: skip

ROUTES = (
    Route(
        "GET", "/gpu/status", status, "What the GPUs of this machine do now, and which jobs hold them.",
        description="`jobs` is empty for callers who may not see the provider.",
        answer=list[GpuStatus], answer_example=[_STATUS], tags=_TAGS,
        needs=Need.LOCAL,
    ),
    Route(
        "GET", "/gpu/capacity", capacity, "What is detected and offered of the GPUs.", answer=GpuCapacity,
        answer_example=_CAPACITY, tags=_TAGS,
        needs=Need.LOCAL,
    ),
    Route(
        "POST", "/gpu/check", check, "Try CUDA on the free GPUs, in a container.", answer=GpuCheck,
        answer_example={"image": _IMAGE, "gpu_uuids": [_UUID], "exit_code": 0, "output": ["CUDA is available"]},
        errors=(404, 409, 422), tags=_TAGS,
        needs=Need.STEER_PROVIDER,
    ),
    Route(
        "GET", "/ml-images", images, "The images for machine learning that jobs here will want.",
        answer=list[ImageState], answer_example=[{"image": _IMAGE, "present": False}], errors=(409,), tags=_TAGS,
        needs=Need.LOCAL,
    ),
    Route(
        "POST", "/ml-images/fetch", fetch_images, "Pull those that are missing; tells how far it is.",
        media={NDJSON: PullProgress}, stream=True, errors=(409,), tags=_TAGS,
        answer_example={"image": _IMAGE, "status": "pulling", "done_mb": 512, "total_mb": 3801, "error": ""},
        needs=Need.STEER_PROVIDER,
    ),
)  # fmt: skip
