"""REST of this machine as a compute provider: onboarding, availability, what of it is free."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any
from uuid import NAMESPACE_OID, uuid5

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.past import AS_OF, views_at
from dms.adapters.http.replies import json_reply, query
from dms.adapters.http.routes import Api, Route
from dms.adapters.http.strict_json import parse
from dms.domain.access import Need
from dms.domain.bounds import MAX_NTX_PRICE
from dms.domain.device import CARDANO_NEEDS, CHANNELS, Device, Offer, no_capacity, offer_limits, why_closed
from dms.domain.directory import Offering
from dms.domain.resources import LEAST, Gpu, Resources
from dms.domain.wallet import blockchain_of
from dms.errors import NotFound
from projections.capacity import Capacity, CapacityRow
from projections.device import OWN, DeviceView, metadata

_VIEW, _CAPACITY = DeviceView(), Capacity()


Amount = Annotated[int, Meta(ge=-(2**62), le=2**62)]  # the device says what is too little or too much


class OnboardBody(Struct, frozen=True, kw_only=True):
    """memory in MB, cpu in MHz, ntx_price a minute. plugins: recorded and shown; there are none to run."""

    memory: Amount
    cpu: Amount
    channel: Annotated[str, Meta(max_length=256)]
    payment_addr: Annotated[str, Meta(max_length=512)]
    cardano: bool = False
    server_mode: bool = True
    ntx_price: float = 0.0
    is_available: bool = True
    plugins: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=32)] = ()


class ResourceBody(Struct, frozen=True, kw_only=True):
    memory: Amount
    cpu: Amount
    ntx_price: float | None = None


class StatusBody(Struct, frozen=True):
    is_available: bool


async def onboard(request: Request, api: Api) -> HTTPResponse:
    """200 metadata; 400 names the field."""
    body = parse(request.body, OnboardBody)
    offer = Offer(
        cpu_mhz=body.cpu,
        memory_mb=body.memory,
        channel=body.channel,
        payment_address=body.payment_addr,
        blockchain=blockchain_of(body.payment_addr),
        allow_cardano=body.cardano,
        server_mode=body.server_mode,
        ntx_price=Decimal(str(body.ntx_price)),
        available=body.is_available,
        hostname=socket.gethostname(),
        plugins=body.plugins,
    )
    await api.services.device.onboard(offer)
    return json_reply(await _metadata(api))


async def resource_config(request: Request, api: Api) -> HTTPResponse:
    """200 metadata; 409 when not onboarded or jobs hold more."""
    body = parse(request.body, ResourceBody)
    price = None if body.ntx_price is None else Decimal(str(body.ntx_price))
    await api.services.device.change_resources(body.cpu, body.memory, price)
    return json_reply(await _metadata(api))


async def get_metadata(_request: Request, api: Api) -> HTTPResponse:
    if not api.services.device.state.onboarded:
        raise NotFound("machine is not onboarded, so it has no metadata; onboard it first: nunet onboard --help")
    return json_reply(await _metadata(api))


async def _metadata(api: Api) -> dict[str, Any]:
    """As the original's metadata file, but for the two values that a reader may want although they are empty."""
    await api.settled()
    row = await api.views.get(_VIEW, OWN)
    found = {} if row is None else metadata(row)
    gpus = {"gpu_info": left} if (left := gpu_info(api.services.device.gpus_left())) else {}
    return {"allow_cardano": False, "ntx_price": 0.0, **found, **gpus}


def gpu_info(gpus: tuple[Gpu, ...]) -> list[dict[str, Any]]:
    return [{"name": g.name, "tot_vram": g.total_vram_mb, "free_vram": g.free_vram_mb} for g in gpus]


async def status(_request: Request, api: Api) -> HTTPResponse:
    """The paths are empty while there is no such file."""
    services = api.services
    return json_reply(
        {
            "onboarded": services.device.state.onboarded,
            "error": None,
            "machine_uuid": str(uuid5(NAMESPACE_OID, services.network.peer_id)),
            "metadata_path": await services.metadata_path(),
            "database_path": str(services.database_path) if services.database_path.is_file() else "",
        }
    )


async def provisioned(_request: Request, api: Api) -> HTTPResponse:
    """Read from the machine for this answer."""
    device = api.services.device
    total, offered, held = device.capacity(), device.state.offered, device.reservations.total
    readings = await device.read_gpus()
    return json_reply(
        answers.Provisioned(
            cpu=float(total.cpu_mhz),
            memory=total.memory_mb,
            total_cores=total.cores,
            cpu_limits=_limits(total.cpu_mhz, offered.cpu_mhz, held.cpu_mhz),
            memory_limits=_limits(total.memory_mb, offered.memory_mb, held.memory_mb),
            gpus=[
                answers.DetectedGpu(
                    name=gpu.name, uuid=gpu.uuid, total_vram_mb=gpu.total_vram_mb, free_vram_mb=gpu.free_vram_mb
                )
                for gpu in readings
            ],
            cardano_needs=answers.Amount(cpu=CARDANO_NEEDS.cpu_mhz, memory=CARDANO_NEEDS.memory_mb),
            channels=list(CHANNELS),
            most_ntx_price=float(MAX_NTX_PRICE),
        )
    )


def _limits(total: int, offered: int, reserved: int) -> answers.OfferLimits:
    least, most = offer_limits(total)
    return answers.OfferLimits(least=least, most=most, offered=offered, reserved=reserved)


async def device_status(request: Request, api: Api) -> HTTPResponse:
    if query(request, "as_of"):
        row = await (await views_at(request, api)).get(_CAPACITY, OWN)
        row = row or CapacityRow(provider="", own=True, online=False, channel="")
        return json_reply(_status(row, row.hindrance, _closed_then(row)))
    device = api.services.device
    closed = [(refusal.kind, refusal.reason) for refusal in api.services.compute_provider.closed()]
    return json_reply(_status(device.state, device.hindrance, closed))


def _status(of: Device | CapacityRow, hindrance: str, closed: Iterable[tuple[str, str]]) -> answers.DeviceStatus:
    """closed: (kind, reason) why no job is taken."""
    told = {"hindrance": hindrance, "network": of.network, "network_trouble": of.network_trouble}
    reasons = [answers.ClosedFor(kind=kind, reason=reason) for kind, reason in closed]
    return answers.DeviceStatus(
        online=of.available,
        accepting=not reasons,
        reasons=reasons,
        **{name: words for name, words in told.items() if words},
    )


def _closed_then(row: CapacityRow) -> list[tuple[str, str]]:
    """As far as it is on record."""
    onboarded = row.onboarded != Resources()
    found = [("provider", reason) for reason in why_closed(onboarded, row.available, row.hindrance)]
    short = row.free.shortfalls(LEAST) if onboarded else []
    return [*found, *([("capacity", no_capacity(short))] if short else [])]


async def set_device_status(request: Request, api: Api) -> HTTPResponse:
    """200 also when nothing changes: then the message says so."""
    wanted = parse(request.body, StatusBody).is_available
    word = "online" if wanted else "offline"
    changed = await api.services.device.set_available(wanted)
    text = f"Device status successfully changed to {word}" if changed else f"no change: the device is {word} already"
    return json_reply({"message": text})


async def free(_request: Request, api: Api) -> HTTPResponse:
    return json_reply(free_resources(api.services.device.offering()))


def free_resources(offering: Offering) -> dict[str, Any]:
    """The original's FreeResources: `tot_cpu_hz` is in MHz. Prices of single resources were never set."""
    left = offering.free
    core_mhz = offering.total.cpu_mhz // max(1, offering.cores)
    return {
        "id": 1,
        "tot_cpu_hz": left.cpu_mhz,
        "price_cpu": 0,
        "ram": left.memory_mb,
        "price_ram": 0,
        "vcpu": left.cpu_mhz // core_mhz if core_mhz else 0,
        "disk": 0,
        "price_disk": 0,
        "ntx_price": float(offering.price or 0),
    }


_ONBOARDING, _DEVICE = ("onboarding",), ("device",)

ROUTES = (
    Route(
        "POST", "/onboarding/onboard", onboard, "Offer this machine to the network.", OnboardBody,
        body_example=examples.OFFER, answer=answers.Metadata, answer_example=examples.METADATA,
        errors=(400, 409), tags=_ONBOARDING,
        needs=Need.STEER_PROVIDER,
    ),
    Route(
        "GET", "/onboarding/status", status, "Whether this machine is onboarded.", answer=answers.OnboardStatus,
        answer_example={
            "onboarded": True, "error": None, "machine_uuid": "2b8f1d0c-8a3e-5a55-9c3b-0d8c3f1f7a11",
            "metadata_path": "/etc/nunet/metadataV2.json", "database_path": "/var/nunet/events.db",
        },
        tags=_ONBOARDING,
        needs=Need.SEE_PROVIDER,
    ),
    Route(
        "GET", "/onboarding/provisioned", provisioned, "What the hardware has in all, and what of it may be offered.",
        answer=answers.Provisioned, answer_example=examples.PROVISIONED, tags=_ONBOARDING,
        needs=Need.LOCAL,
    ),
    Route(
        "GET", "/onboarding/metadata", get_metadata, "What is onboarded.", answer=answers.Metadata,
        answer_example=examples.METADATA, errors=(404,), tags=_ONBOARDING,
        needs=Need.SEE_PROVIDER,
    ),
    Route(
        "POST", "/onboarding/resource-config", resource_config, "Change what is offered.", ResourceBody,
        body_example={"memory": 4000, "cpu": 4000, "ntx_price": 0.002}, answer=answers.Metadata,
        answer_example=examples.METADATA, errors=(400, 409), tags=_ONBOARDING,
        needs=Need.STEER_PROVIDER,
    ),
    Route(
        "GET", "/device/status", device_status, "Whether jobs are taken.", query=(AS_OF,),
        answer=answers.DeviceStatus, errors=(400,),
        answer_example={
            "online": True, "accepting": False,
            "reasons": [{"kind": "capacity", "reason": "the provider has no capacity left: 6 MB memory asked, 0 free"}],
        },
        tags=_DEVICE,
        needs=Need.LOCAL,
    ),
    Route(
        "POST", "/device/status", set_device_status, "Take jobs, or not for now.", StatusBody,
        body_example={"is_available": True}, answer=answers.Message,
        answer_example={"message": "Device status successfully changed to online"}, errors=(400, 409), tags=_DEVICE,
        needs=Need.STEER_PROVIDER,
    ),
    Route(
        "GET", "/telemetry/free", free, "What of the onboarded resources is free.", answer=answers.FreeResources,
        answer_example=examples.FREE, tags=_DEVICE,
        needs=Need.LOCAL,
    ),
)  # fmt: skip
