"""The machine this DMS runs on, as a compute provider: what it offers, and what is taken of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from dms.domain.aggregate import applies
from dms.domain.bounds import check_ntx_price
from dms.domain.device_condition import DeviceCondition, DeviceState
from dms.domain.device_policy import EVERYTHING, DevicePolicy, Lists
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.gpus import GpuReading, recorded_anew, vram_offered
from dms.domain.resources import Gpu, Resources
from dms.domain.rules import Rules
from dms.domain.sealing import ERASED
from dms.errors import Conflict, InvalidInput

CHANNELS = ("nunet-staging", "nunet-test", "nunet-team", "nunet-edge")
CARDANO_NEEDS = Resources(cpu_mhz=6000, memory_mb=10000)


class Capacity(Struct, frozen=True, kw_only=True):
    """What the hardware has in all. cores: logical CPUs."""

    cpu_mhz: int
    memory_mb: int
    cores: int
    gpus: tuple[Gpu, ...] = ()


class Offer(Struct, frozen=True, kw_only=True):
    """What the owner onboards. cpu_mhz and memory_mb of the total; ntx_price a minute."""

    cpu_mhz: int
    memory_mb: int
    channel: str
    payment_address: str
    blockchain: str = ""  # "Cardano" | "Ethereum", from the address
    allow_cardano: bool = False
    server_mode: bool = True
    ntx_price: Decimal = Decimal(0)
    available: bool = True
    hostname: str = ""
    plugins: tuple[str, ...] = ()  # names; accepted as the original did, and shown


def _with_offered(body: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had the offer's CPU and memory as fields of their own, and left its GPU memory to be worked out."""
    gpus = msgspec.convert(body["total"].get("gpus", []), tuple[Gpu, ...])
    cpu_mhz, memory_mb = body.pop("cpu_mhz"), body.pop("memory_mb")
    return body | {"offered": {"cpu_mhz": cpu_mhz, "memory_mb": memory_mb, "vram_mb": vram_offered(gpus)}}


class Device(DeviceCondition):
    KIND: ClassVar[str] = "device"

    @register
    class Onboarded(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.onboarded"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: _with_offered}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"payment_address": ERASED, "hostname": ERASED}
        total: Capacity
        offered: Resources
        channel: str
        payment_address: str
        blockchain: str = ""
        allow_cardano: bool = False
        server_mode: bool = True
        ntx_price: str = "0"
        available: bool = True
        hostname: str = ""
        plugins: tuple[str, ...] = ()

    @register
    class ResourcesChanged(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.resources_changed"
        cpu_mhz: int
        memory_mb: int
        ntx_price: str

    @register
    class GpusChanged(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.gpus_changed"
        gpus: tuple[Gpu, ...]  # all that there are, with what is free apart from our jobs

    @register
    class AvailabilityChanged(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.availability_changed"
        available: bool

    @register
    class PaymentAddressChanged(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.payment_address_changed"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"payment_address": ERASED, "previous": ERASED}
        payment_address: str
        blockchain: str = ""
        previous: str = ""  # the address that got the payments until now

    @register
    class DefaultProviderChanged(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.default_provider_changed"
        peer_id: str  # that gets the requests which name none; empty: any that fits

    @register
    class PolicyChanged(Event, frozen=True, kw_only=True, gc=False):
        """Whose jobs and which images are taken, as a whole, beside what the configuration says."""

        TOPIC: ClassVar[str] = "device.policy_changed"
        images: Lists
        peers: Lists

    @register
    class Offboarded(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "device.offboarded"
        forced: bool = False

    RULES: ClassVar[Rules[DeviceState]] = Rules(
        DeviceState.ABSENT,
        {
            DeviceState.ABSENT: {
                Onboarded: DeviceState.ONBOARDED,
                DefaultProviderChanged: DeviceState.ABSENT,
                PolicyChanged: DeviceState.ABSENT,
                DeviceCondition.Hindered: DeviceState.ABSENT,
                DeviceCondition.Unhindered: DeviceState.ABSENT,
                Offboarded: DeviceState.ABSENT,  # by force, to be sure
            },
            DeviceState.ONBOARDED: {
                Onboarded: DeviceState.ONBOARDED,  # with another offer
                PaymentAddressChanged: DeviceState.ONBOARDED,
                ResourcesChanged: DeviceState.ONBOARDED,
                GpusChanged: DeviceState.ONBOARDED,
                AvailabilityChanged: DeviceState.ONBOARDED,
                DefaultProviderChanged: DeviceState.ONBOARDED,
                DeviceCondition.Hindered: DeviceState.ONBOARDED,
                DeviceCondition.Unhindered: DeviceState.ONBOARDED,
                DeviceCondition.NetworkChanged: DeviceState.ONBOARDED,
                DeviceCondition.SandboxTested: DeviceState.ONBOARDED,
                PolicyChanged: DeviceState.ONBOARDED,
                Offboarded: DeviceState.ABSENT,
            },
        },
        {},
    )

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.available = False
        self.channel = ""
        self.payment_address = ""
        self.blockchain = ""
        self.allow_cardano = False
        self.ntx_price = Decimal(0)
        self.hostname = ""
        self.default_provider = ""
        self.policy = EVERYTHING
        self.total = Capacity(cpu_mhz=0, memory_mb=0, cores=0)
        self.offered = Resources()

    @property
    def online(self) -> bool:
        """Whether jobs are taken."""
        return self.available and not self.hindrance

    def onboard(self, offer: Offer, total: Capacity) -> None:
        """Again is allowed and replaces the offer; another payment address is then an event of its own.
        Raises InvalidInput."""
        check_offer(offer, total)
        previous = self.payment_address
        self.trigger(
            self.Onboarded(
                total=total,
                offered=Resources(cpu_mhz=offer.cpu_mhz, memory_mb=offer.memory_mb, vram_mb=vram_offered(total.gpus)),
                channel=offer.channel,
                payment_address=offer.payment_address,
                blockchain=offer.blockchain,
                allow_cardano=offer.allow_cardano,
                server_mode=offer.server_mode,
                ntx_price=f"{offer.ntx_price:f}",  # not 1E-7: known clients take plain decimals alone
                available=offer.available,
                hostname=offer.hostname,
                plugins=offer.plugins,
            )
        )
        if previous not in ("", offer.payment_address):
            self.trigger(
                self.PaymentAddressChanged(
                    payment_address=offer.payment_address, blockchain=offer.blockchain, previous=previous
                )
            )

    def change_resources(self, cpu_mhz: int, memory_mb: int, ntx_price: Decimal) -> None:
        """Raises Conflict unless onboarded, InvalidInput out of range."""
        self._require_onboarded()
        check_ranges(cpu_mhz, memory_mb, self.total)
        check_ntx_price(ntx_price)
        self.trigger(self.ResourcesChanged(cpu_mhz=cpu_mhz, memory_mb=memory_mb, ntx_price=f"{ntx_price:f}"))

    def see_gpus(self, readings: Iterable[GpuReading], held: Iterable[str], *, usable: bool = True) -> bool:
        """Whether anything notable changed. held: uuids that jobs hold. usable: whether containers can
        be given GPUs. Of a machine that is not onboarded nothing is recorded."""
        gpus = recorded_anew(self.total.gpus, readings, held, usable=usable)
        if not self.onboarded or gpus == self.total.gpus:
            return False
        self.trigger(self.GpusChanged(gpus=gpus))
        return True

    def set_available(self, available: bool) -> bool:
        """Whether anything changed. Raises Conflict unless onboarded."""
        self._require_onboarded()
        if available == self.available:
            return False
        self.trigger(self.AvailabilityChanged(available=available))
        return True

    def change_default_provider(self, peer_id: str) -> bool:
        """Whether anything changed. Also of a machine that is not onboarded. Raises Conflict for itself."""
        if peer_id == self.key:
            raise Conflict("peerID can not be self peerID")
        if peer_id == self.default_provider:
            return False
        self.trigger(self.DefaultProviderChanged(peer_id=peer_id))
        return True

    def change_policy(self, policy: DevicePolicy) -> bool:
        """Whether anything changed. Also of a machine that is not onboarded. Raises InvalidInput, naming the entry."""
        policy.check(own_peer_id=self.key)
        if policy == self.policy:
            return False
        self.trigger(self.PolicyChanged(images=policy.images, peers=policy.peers))
        return True

    def offboard(self, forced: bool) -> None:
        if not self.onboarded and not forced:
            raise Conflict("machine is not onboarded")
        self.trigger(self.Offboarded(forced=forced))

    def _require_onboarded(self) -> None:
        if not self.onboarded:
            raise Conflict("machine is not onboarded; onboard it first: nunet onboard --help")

    @applies(Onboarded)
    def _onboarded(self, event: Onboarded) -> None:
        self.available = event.available
        self.channel = event.channel
        self.payment_address, self.blockchain = event.payment_address, event.blockchain
        self.allow_cardano = event.allow_cardano
        self.ntx_price = Decimal(event.ntx_price)
        self.hostname = event.hostname
        self.total, self.offered = event.total, event.offered

    @applies(GpusChanged)
    def _gpus_changed(self, event: GpusChanged) -> None:
        self.total = msgspec.structs.replace(self.total, gpus=event.gpus)
        self.offered = msgspec.structs.replace(self.offered, vram_mb=vram_offered(event.gpus))

    @applies(ResourcesChanged)
    def _resources_changed(self, event: ResourcesChanged) -> None:
        self.offered = Resources(cpu_mhz=event.cpu_mhz, memory_mb=event.memory_mb, vram_mb=self.offered.vram_mb)
        self.ntx_price = Decimal(event.ntx_price)

    @applies(AvailabilityChanged)
    def _availability_changed(self, event: AvailabilityChanged) -> None:
        self.available = event.available

    @applies(PaymentAddressChanged)
    def _payment_address_changed(self, event: PaymentAddressChanged) -> None:
        self.payment_address, self.blockchain = event.payment_address, event.blockchain

    @applies(DefaultProviderChanged)
    def _default_provider_changed(self, event: DefaultProviderChanged) -> None:
        self.default_provider = event.peer_id

    @applies(PolicyChanged)
    def _policy_changed(self, event: PolicyChanged) -> None:
        self.policy = DevicePolicy(images=event.images, peers=event.peers)

    @applies(Offboarded)
    def _offboarded(self, event: Offboarded) -> None:
        self.available = False
        self.offered = Resources()


def check_offer(offer: Offer, total: Capacity) -> None:
    """Raises InvalidInput with the original's texts, in the original's order."""
    check_ranges(offer.cpu_mhz, offer.memory_mb, total)
    if offer.allow_cardano and Resources(cpu_mhz=offer.cpu_mhz, memory_mb=offer.memory_mb).shortfalls(CARDANO_NEEDS):
        raise InvalidInput("cardano node requires 10000MB of RAM and 6000MHz CPU", [("/cardano", "too little")])
    if offer.channel not in CHANNELS:
        raise InvalidInput(
            "channel name not supported! nunet-test, nunet-edge, nunet-team and nunet-staging are supported at the "
            f"moment, not '{offer.channel[:64]}'",
            [("/channel", "unknown channel")],
        )
    check_ntx_price(offer.ntx_price)


def why_closed(onboarded: bool, available: bool, hindrance: str) -> list[str]:
    """Why a machine takes no job at all, as a peer is told it that asks: the first one. available: as its owner set
    it."""
    if not onboarded:
        return ["the provider is not onboarded"]
    return [reason for reason in ("" if available else "the provider is offline", hindrance) if reason]


def no_capacity(short: Iterable[str]) -> str:
    """short: what there is too little of, in words."""
    return f"the provider has no capacity left: {'; '.join(short)}"


def offer_limits(whole: int) -> tuple[int, int]:
    """The least and the most that may be offered of it."""
    return whole // 10, whole * 9 // 10


def check_ranges(cpu_mhz: int, memory_mb: int, total: Capacity) -> None:
    """Between a tenth and nine tenths of the total, both inclusive."""
    for name, pointer, value, whole in (
        ("CPU", "/cpu", cpu_mhz, total.cpu_mhz),
        ("memory", "/memory", memory_mb, total.memory_mb),
    ):
        low, high = offer_limits(whole)
        if not low <= value <= high:
            text = f"{name} should be between 10% and 90% of the available {name} ({low} and {high})"
            raise InvalidInput(text, [(pointer, f"{value} is not between {low} and {high}")])
