"""The capacity view: one row a compute provider (this device among them): what it has, offers, and
has free. The network's sum is taken over the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.directory import Provider
from dms.domain.event import Recorded
from dms.domain.gpus import vram_offered, vram_total
from dms.domain.resources import Resources
from projections.base import Projection

OWN = "self"  # the row of this device: a deployment's event does not name the node it runs on


class CapacityRow(Struct, frozen=True, kw_only=True):
    """total: the hardware; onboarded: offered to the network; reserved: held by jobs.
    held: job id -> what it holds (own device only)."""

    provider: str  # peer id
    own: bool
    online: bool
    channel: str
    total: Resources = Resources()
    onboarded: Resources = Resources()
    reserved: Resources = Resources()
    ntx_price: str = "0"
    held: dict[str, Resources] = {}
    position: int = 0

    @property
    def free(self) -> Resources:
        return self.onboarded - self.reserved


class NetworkCapacity(Struct, frozen=True, kw_only=True):
    providers: int
    online: int
    total: Resources
    onboarded: Resources
    reserved: Resources
    free: Resources


class Capacity(Projection[CapacityRow]):
    name: ClassVar[str] = "capacity"
    version = 2
    row_type = CapacityRow
    columns: ClassVar[Mapping[str, str]] = {"channel": "TEXT"}

    def key(self, recorded: Recorded) -> str | None:
        kind, _, key = recorded.originator_id.partition("-")
        if kind == Provider.KIND:
            return key
        return OWN if kind in (Device.KIND, Deployment.KIND) else None

    def column_values(self, row: CapacityRow) -> tuple[Any, ...]:
        return (row.channel,)

    def apply(self, row: CapacityRow | None, recorded: Recorded) -> CapacityRow | None:
        after = _apply(row, recorded)
        return None if after is None else msgspec.structs.replace(after, position=recorded.position)


def network_sum(rows: Iterable[CapacityRow]) -> NetworkCapacity:
    """Of all providers that are online; `providers` counts the others too."""
    known = list(rows)
    online = [row for row in known if row.online]

    def added(amounts: Iterable[Resources]) -> Resources:
        return sum(amounts, start=Resources())

    return NetworkCapacity(
        providers=len(known),
        online=len(online),
        total=added(row.total for row in online),
        onboarded=added(row.onboarded for row in online),
        reserved=added(row.reserved for row in online),
        free=added(row.free for row in online),
    )


def _apply(row: CapacityRow | None, recorded: Recorded) -> CapacityRow | None:
    event = recorded.event
    match event:
        case Provider.Advertised(offering=offering):
            return CapacityRow(
                provider=recorded.originator_id.partition("-")[2],
                own=False,
                online=offering.online,
                channel=offering.channel,
                total=offering.total,
                onboarded=offering.offered,
                reserved=offering.reserved,
                ntx_price=offering.ntx_price,
            )
        case Provider.Withdrawn() | Provider.Lost():
            return None
        case Device.Onboarded():
            return _onboarded(row, event, recorded.originator_id.partition("-")[2])
    if row is None:
        return None
    match event:
        case Device.ResourcesChanged():
            offered = Resources(cpu_mhz=event.cpu_mhz, memory_mb=event.memory_mb, vram_mb=row.onboarded.vram_mb)
            return msgspec.structs.replace(row, onboarded=offered, ntx_price=event.ntx_price)
        case Device.GpusChanged(gpus=gpus):
            total = msgspec.structs.replace(row.total, vram_mb=vram_total(gpus))
            onboarded = msgspec.structs.replace(row.onboarded, vram_mb=vram_offered(gpus))
            return msgspec.structs.replace(row, total=total, onboarded=onboarded)
        case Device.AvailabilityChanged(available=available):
            return msgspec.structs.replace(row, online=available)
        case Device.Offboarded():
            return msgspec.structs.replace(row, online=False, onboarded=Resources())
        case Deployment.Accepted(reserved=reserved):
            return _holding(row, {**row.held, recorded.originator_id.partition("-")[2]: reserved})
        case Deployment.ContainerExited() | Deployment.Failed() | Deployment.Stopped():
            job_id = recorded.originator_id.partition("-")[2]
            return _holding(row, {key: held for key, held in row.held.items() if key != job_id})
    return row


def _onboarded(row: CapacityRow | None, event: Device.Onboarded, peer_id: str) -> CapacityRow:
    gpus = event.total.gpus
    new = CapacityRow(
        provider=peer_id,
        own=True,
        online=event.available,
        channel=event.channel,
        total=Resources(cpu_mhz=event.total.cpu_mhz, memory_mb=event.total.memory_mb, vram_mb=vram_total(gpus)),
        onboarded=event.offered,
        ntx_price=event.ntx_price,
    )
    return new if row is None else _holding(new, row.held)


def _holding(row: CapacityRow, held: dict[str, Resources]) -> CapacityRow:
    return msgspec.structs.replace(row, held=held, reserved=sum(held.values(), start=Resources()))
