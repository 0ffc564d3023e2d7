"""The capacity view: one row a compute provider (this device among them): what it has, offers, and
has free. The network's sum is taken over the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.directory import Provider
from dms.domain.event import AnyFact, Event, Unknown
from dms.domain.features import INTERNET
from dms.domain.gpus import GpuHold, left_of, vram_offered, vram_total
from dms.domain.hold import Hold
from dms.domain.network import Network
from dms.domain.reservations import Held
from dms.domain.resources import Gpu, Resources
from projections.base import Projection

OWN = "self"  # the row of this device: a deployment's event does not name the node it runs on
STANDING, ONLINE, OFFLINE = "standing", "online", "offline"
_SUMMED, _UNITS = ("total", "onboarded", "reserved"), Resources.__struct_fields__
AMOUNTS = tuple(f"{of}_{unit}" for of in _SUMMED for unit in _UNITS)
LARGEST_SUMMED = 2**40  # of one provider: the sums of all must be numbers that SQLite can hold


class CapacityRow(Struct, frozen=True, kw_only=True, gc=False):
    """online: takes jobs. hindrance: why it can't just now, whatever its owner set. network: the most that its jobs are
    given, empty where it does not say; network_trouble: why it is no more (own device only). total: the hardware;
    onboarded: offered to the network; reserved: held by jobs. held: job id -> what it holds; on_hold: job id -> what is
    kept for it until it is paid (own device only). gpus: that are offered, with what is free of them apart from those
    jobs."""

    provider: str  # peer id
    own: bool
    online: bool
    channel: str
    hindrance: str = ""
    network: str = ""
    network_trouble: str = ""
    total: Resources = Resources()
    onboarded: Resources = Resources()
    reserved: Resources = Resources()
    ntx_price: str = "0"
    gpus: tuple[Gpu, ...] = ()
    held: dict[str, Held] = {}
    on_hold: dict[str, Resources] = {}
    available: bool = False  # as the owner set it (own device only)
    position: int = 0

    @property
    def free(self) -> Resources:
        return self.onboarded - self.reserved

    @property
    def gpus_left(self) -> tuple[Gpu, ...]:
        """With what jobs leave of them."""
        holds: dict[str, list[GpuHold]] = {}
        for held in self.held.values():
            for uuid in held.gpu_uuids:
                holds.setdefault(uuid, []).append(held.of_each_gpu)
        return left_of(self.gpus, holds)

    @property
    def public(self) -> dict[str, Any]:
        """For anybody: which jobs hold what stays private."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        del shown["held"]
        more = {
            "free": self.free,
            "gpus": self.gpus_left,
            "on_hold": sum(self.on_hold.values(), start=Resources()),
        }
        return shown | {name: msgspec.to_builtins(value) for name, value in more.items()}


class NetworkCapacity(Struct, frozen=True, kw_only=True):
    providers: int
    online: int
    total: Resources
    onboarded: Resources
    reserved: Resources
    free: Resources


_OWN_KINDS = (Device.KIND, Deployment.KIND, Hold.KIND)
_READ: frozenset[type[Event]] = frozenset((
    Provider.Advertised, Device.Onboarded, Device.ResourcesChanged, Device.GpusChanged, Device.AvailabilityChanged,
    Device.Hindered, Device.NetworkChanged, Deployment.Accepted, Hold.Placed,
))  # fmt: skip
_GONE: frozenset[type[Event]] = frozenset((Provider.Withdrawn, Provider.Lost))
_FREED: frozenset[type[Event]] = frozenset((Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped))
# Of which no more counts than that they happened.
_BARE: frozenset[type[Event]] = _GONE | _FREED | {Device.Offboarded, Device.Unhindered, Hold.Ended}


class Capacity(Projection[CapacityRow]):
    name: ClassVar[str] = "capacity"
    version = 7
    event_types: ClassVar[frozenset[type[Event]]] = (
        Provider.event_types() | Device.event_types() | Deployment.event_types() | Hold.event_types() | {Unknown}
    )
    places_only = event_types - _READ
    row_type = CapacityRow
    columns: ClassVar[Mapping[str, str]] = {"channel": "TEXT", STANDING: "TEXT", **dict.fromkeys(AMOUNTS, "INTEGER")}
    indexed: ClassVar[Sequence[str]] = ("channel", ", ".join((STANDING, *AMOUNTS)))  # sums without a look at rows

    def key(self, recorded: AnyFact) -> str | None:
        if recorded.event_type not in self.event_types:
            return None
        if recorded.kind in _OWN_KINDS:
            return OWN
        return recorded.key if recorded.kind == Provider.KIND else None

    def column_values(self, row: CapacityRow) -> tuple[Any, ...]:
        amounts = (getattr(getattr(row, of), unit) for of in _SUMMED for unit in _UNITS)
        return row.channel, _standing(row), *(min(amount, LARGEST_SUMMED) for amount in amounts)

    def apply(self, row: CapacityRow | None, recorded: AnyFact) -> CapacityRow | None:
        event_type = recorded.event_type
        if event_type in _READ or event_type in _BARE:
            row = _apply(row, recorded)
        return None if row is None else replace(row, position=recorded.position)


def _standing(row: CapacityRow) -> str:
    """This device's own is not told: whether it is online may be known better than its row has it."""
    if row.own or not row.channel:
        return OWN if row.own else ""
    return ONLINE if row.online else OFFLINE


def network_sum(own: CapacityRow | None, totals: Mapping[tuple[Any, ...], tuple[int, ...]]) -> NetworkCapacity:
    """Of all providers that are online; `providers` counts the others too, but not a device that never onboarded.
    totals: of the others, by their standing: how many, and the sums of AMOUNTS."""
    online, *amounts = totals.get((ONLINE,), (0,) * (1 + len(AMOUNTS)))
    providers = online + totals.get((OFFLINE,), (0,))[0]
    summed = dict(zip(AMOUNTS, amounts, strict=True))
    total, onboarded, reserved = (Resources(**{unit: summed[f"{of}_{unit}"] for unit in _UNITS}) for of in _SUMMED)
    if own is not None and own.channel:
        providers += 1
        if own.online:
            online += 1
            total, onboarded, reserved = total + own.total, onboarded + own.onboarded, reserved + own.reserved
    return NetworkCapacity(
        providers=providers,
        online=online,
        total=total,
        onboarded=onboarded,
        reserved=reserved,
        free=onboarded - reserved,
    )


def _apply(row: CapacityRow | None, recorded: AnyFact) -> CapacityRow | None:
    event, event_type = recorded.event, recorded.event_type
    if event_type in _GONE:
        return None
    match event:
        case Provider.Advertised(offering=offering):
            return CapacityRow(
                provider=recorded.key,
                own=False,
                online=offering.online,
                channel=offering.channel,
                total=offering.total,
                onboarded=offering.offered,
                reserved=offering.reserved,
                ntx_price=offering.ntx_price,
                gpus=offering.gpus,
                network=Network.INTERNET.value if INTERNET in offering.features else "",
            )
        case Device.Onboarded():
            return _onboarded(row, event, recorded.key)
        case Device.Hindered(reason=reason):
            new = CapacityRow(provider=recorded.key, own=True, online=False, channel="")
            return replace(row or new, online=False, hindrance=reason)
    if row is None:
        return None
    if event_type in _FREED:
        return _freed(row, recorded.key)
    if event_type is Hold.Ended:
        return replace(row, on_hold={job: kept for job, kept in row.on_hold.items() if job != recorded.key})
    if event_type is Device.Offboarded:
        return replace(row, online=False, available=False, onboarded=Resources(), gpus=())
    if event_type is Device.Unhindered:
        return replace(row, online=row.available, hindrance="")
    match event:
        case Device.ResourcesChanged():
            offered = Resources(cpu_mhz=event.cpu_mhz, memory_mb=event.memory_mb, vram_mb=row.onboarded.vram_mb)
            return replace(row, onboarded=offered, ntx_price=event.ntx_price)
        case Device.GpusChanged(gpus=gpus):
            total = replace(row.total, vram_mb=vram_total(gpus))
            onboarded = replace(row.onboarded, vram_mb=vram_offered(gpus))
            return replace(row, total=total, onboarded=onboarded, gpus=gpus)
        case Device.NetworkChanged(network=network, reason=reason):
            return replace(row, network=network, network_trouble=reason)
        case Device.AvailabilityChanged(available=available):
            return replace(row, online=available and not row.hindrance, available=available)
        case Hold.Placed(reserved=kept):
            return replace(row, on_hold={**row.on_hold, recorded.key: kept})
        case Deployment.Accepted(reserved=reserved, gpu_uuids=gpu_uuids, gpus_shared=shared):
            return _held(row, recorded.key, Held(resources=reserved, gpu_uuids=gpu_uuids, shared=shared))
    return row


def _onboarded(row: CapacityRow | None, event: Device.Onboarded, peer_id: str) -> CapacityRow:
    gpus = event.total.gpus
    new = CapacityRow(
        provider=peer_id,
        own=True,
        online=event.available,
        available=event.available,
        channel=event.channel,
        total=Resources(cpu_mhz=event.total.cpu_mhz, memory_mb=event.total.memory_mb, vram_mb=vram_total(gpus)),
        onboarded=event.offered,
        ntx_price=event.ntx_price,
        gpus=gpus,
    )
    if row is None:
        return new
    online = new.online and not row.hindrance
    return replace(
        new,
        online=online,
        hindrance=row.hindrance,
        network=row.network,
        network_trouble=row.network_trouble,
        held=row.held,
        on_hold=row.on_hold,
        reserved=row.reserved,
    )


def _held(row: CapacityRow, job_id: str, new: Held) -> CapacityRow:
    """In place of what the job held. By difference: a sum over all jobs would grow with their number."""
    before = row.held.get(job_id)
    reserved = row.reserved + new.resources
    if before is not None:
        reserved -= before.resources
    return replace(row, held={**row.held, job_id: new}, reserved=reserved)


def _freed(row: CapacityRow, job_id: str) -> CapacityRow:
    before = row.held.get(job_id)
    if before is None:
        return row
    held = row.held.copy()
    del held[job_id]
    return replace(row, held=held, reserved=row.reserved - before.resources)
