"""The view of this machine: what it is onboarded with, and how the original writes that down."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from dms.domain.device import Capacity, Device
from dms.domain.device_policy import DevicePolicy
from dms.domain.event import AnyFact, Event, Unknown
from projections.base import Projection

OWN = "self"
_COUNTED: frozenset[type[Event]] = frozenset((
    Device.Onboarded, Device.ResourcesChanged, Device.GpusChanged, Device.AvailabilityChanged,
    Device.PaymentAddressChanged, Device.PolicyChanged, Device.Hindered, Device.Unhindered, Device.Offboarded,
))  # fmt: skip
_NOT_OF_THE_OFFER = frozenset((Device.Hindered, Device.Unhindered, Device.PolicyChanged))
TOPICS = tuple(sorted(event_type.TOPIC for event_type in _COUNTED))


class DeviceRow(Struct, frozen=True, kw_only=True, gc=False):
    """available: as the owner set it. hindrance: why no job can be run just now all the same. changed_at: Unix time
    in microseconds of the last change that somebody made to what is offered. position: of the newest event."""

    peer_id: str
    onboarded: bool
    available: bool = False
    hindrance: str = ""
    hostname: str = ""
    total: Capacity = Capacity(cpu_mhz=0, memory_mb=0, cores=0)
    cpu_mhz: int = 0
    memory_mb: int = 0
    channel: str = ""
    payment_address: str = ""
    allow_cardano: bool = False
    ntx_price: str = "0"
    plugins: tuple[str, ...] = ()
    policy: DevicePolicy = DevicePolicy()
    changed_at: int = 0
    position: int = 0

    @property
    def ever_onboarded(self) -> bool:
        return bool(self.channel)

    @property
    def online(self) -> bool:
        return self.available and not self.hindrance


class DeviceView(Projection[DeviceRow]):
    """One row, kept when the machine is offboarded."""

    name: ClassVar[str] = "device"
    version = 3
    row_type = DeviceRow
    event_types = _COUNTED | {Unknown}  # a change that a newer program made counts as one

    def key(self, recorded: AnyFact) -> str | None:
        return OWN if recorded.topic in TOPICS else None

    def apply(self, row: DeviceRow | None, recorded: AnyFact) -> DeviceRow | None:
        before = row or DeviceRow(peer_id=recorded.key, onboarded=False)
        after = _apply(before, recorded)
        changed_at = before.changed_at if recorded.event_type in _NOT_OF_THE_OFFER else recorded.time
        return msgspec.structs.replace(after, changed_at=changed_at, position=recorded.position)


def _apply(row: DeviceRow, recorded: AnyFact) -> DeviceRow:
    match recorded.event:
        case Device.Onboarded() as event:
            return DeviceRow(
                peer_id=row.peer_id,
                onboarded=True,
                available=event.available,
                hindrance=row.hindrance,
                hostname=event.hostname,
                total=event.total,
                cpu_mhz=event.offered.cpu_mhz,
                memory_mb=event.offered.memory_mb,
                channel=event.channel,
                payment_address=event.payment_address,
                allow_cardano=event.allow_cardano,
                ntx_price=event.ntx_price,
                plugins=event.plugins,
                policy=row.policy,
            )
        case Device.ResourcesChanged() as event:
            return msgspec.structs.replace(
                row, cpu_mhz=event.cpu_mhz, memory_mb=event.memory_mb, ntx_price=event.ntx_price
            )
        case Device.GpusChanged(gpus=gpus):
            return msgspec.structs.replace(row, total=msgspec.structs.replace(row.total, gpus=gpus))
        case Device.PaymentAddressChanged(payment_address=address):
            return msgspec.structs.replace(row, payment_address=address)
        case Device.AvailabilityChanged(available=available):
            return msgspec.structs.replace(row, available=available)
        case Device.Hindered(reason=reason):
            return msgspec.structs.replace(row, hindrance=reason)
        case Device.Unhindered():
            return msgspec.structs.replace(row, hindrance="")
        case Device.PolicyChanged(images=images, peers=peers):
            return msgspec.structs.replace(row, policy=DevicePolicy(images=images, peers=peers))
        case Device.Offboarded():
            return msgspec.structs.replace(row, onboarded=False, available=False)
    return row


def metadata(row: DeviceRow) -> dict[str, Any]:
    """As in the original's metadataV2.json, empty values left out. MHz and MB; update_timestamp: Unix seconds;
    available: what is not offered; public_key: the wallet's address; free_vram: but for what our jobs take."""
    total = row.total
    found: dict[str, Any] = {
        "name": row.hostname,
        "update_timestamp": row.changed_at // 1_000_000,
        "resource": {"memory_max": total.memory_mb, "total_core": total.cores, "cpu_max": total.cpu_mhz},
        "available": {"cpu": total.cpu_mhz - row.cpu_mhz, "memory": total.memory_mb - row.memory_mb},
        "reserved": {"cpu": row.cpu_mhz, "memory": row.memory_mb},
        "network": row.channel,
        "public_key": row.payment_address,
        "node_id": row.peer_id,
        "allow_cardano": row.allow_cardano,
        "gpu_info": [
            {"name": gpu.name, "tot_vram": gpu.total_vram_mb, "free_vram": gpu.free_vram_mb} for gpu in total.gpus
        ],
        "ntx_price": float(row.ntx_price),
        "plugins": list(row.plugins),
    }
    return _without_empty(found)


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    cleaned = {key: _without_empty(part) if isinstance(part, dict) else part for key, part in value.items()}
    return {key: part for key, part in cleaned.items() if part}
