"""This machine as a compute provider: onboarding, availability, what of it is free."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

from dms.application.ports import EventLog, Hardware
from dms.domain.device import Capacity, Device, Offer, Reservations
from dms.domain.directory import Offering
from dms.domain.resources import Resources
from dms.errors import Conflict

log = logging.getLogger(__name__)

DEFAULT_CHANNEL = "nunet-test"  # of a node that never onboarded: it may still ask for jobs


class DeviceService:
    def __init__(self, log: EventLog, hardware: Hardware, peer_id: str) -> None:
        self._log, self._hardware, self._peer_id = log, hardware, peer_id
        self.reservations = Reservations()
        self.hindrance = ""
        """Why no job can be run here just now, whatever the owner set; empty when one can."""
        self._listeners: list[Callable[[], None]] = []

    @property
    def state(self) -> Device:
        """The device as decided so far."""
        return self._log.load(Device, self._peer_id) or Device(self._peer_id)

    @property
    def channel(self) -> str:
        return self.state.channel or DEFAULT_CHANNEL

    def capacity(self) -> Capacity:
        """Of the hardware, now."""
        return self._hardware.capacity()

    def free(self) -> Resources:
        """What of the onboarded resources no job holds."""
        return self.state.offered - self.reservations.total

    def offering(self) -> Offering:
        """What the network is told."""
        device = self.state
        total = device.total
        return Offering(
            channel=self.channel,
            online=device.available and not self.hindrance,
            onboarded=device.onboarded,
            total=Resources(
                cpu_mhz=total.cpu_mhz, memory_mb=total.memory_mb, vram_mb=sum(g.total_vram_mb for g in total.gpus)
            ),
            offered=device.offered,
            reserved=self.reservations.total,
            cores=total.cores,
            gpus=total.gpus,
            ntx_price=str(device.ntx_price),
            blockchain=device.blockchain,
            payment_address=device.payment_address,
            allow_cardano=device.allow_cardano,
        )

    async def onboard(self, offer: Offer) -> Device:
        """Raises InvalidInput; Conflict when running jobs hold more than is offered now."""
        device = self.state
        self._check_holds(offer.cpu_mhz, offer.memory_mb)
        device.onboard(offer, self.capacity())
        await self._save(device)
        return device

    async def change_resources(self, cpu_mhz: int, memory_mb: int, ntx_price: Decimal | None = None) -> Device:
        """Raises Conflict unless onboarded or when jobs hold more, InvalidInput out of range."""
        device = self.state
        self._check_holds(cpu_mhz, memory_mb)
        device.change_resources(cpu_mhz, memory_mb, device.ntx_price if ntx_price is None else ntx_price)
        await self._save(device)
        return device

    async def set_available(self, available: bool) -> bool:
        """Whether anything changed. Raises Conflict unless onboarded."""
        device = self.state
        changed = device.set_available(available)
        await self._save(device)
        return changed

    async def offboard(self, forced: bool) -> None:
        """Raises Conflict when not onboarded, or while jobs run (unless forced)."""
        if self.reservations and not forced:
            raise Conflict(f"{len(self.reservations)} job(s) run on this machine; wait for them, or use force")
        device = self.state
        device.offboard(forced)
        await self._save(device)

    def hinder(self, reason: str) -> None:
        """The network is told at once. reason: empty when jobs can be run again."""
        changed = bool(reason) != bool(self.hindrance)
        self.hindrance = reason
        if changed:
            self.changed()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Called when what the network should know may have changed."""
        self._listeners.append(listener)

    def changed(self) -> None:
        for listener in self._listeners:
            listener()

    async def _save(self, device: Device) -> None:
        await self._log.save(device)
        self.changed()

    def _check_holds(self, cpu_mhz: int, memory_mb: int) -> None:
        short = Resources(cpu_mhz=cpu_mhz, memory_mb=memory_mb, vram_mb=self.reservations.total.vram_mb).shortfalls(
            self.reservations.total
        )
        if short:
            raise Conflict(f"running jobs hold more than that ({'; '.join(short)}); wait for them to end")
