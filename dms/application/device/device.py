"""This machine as a compute provider: onboarding, availability, what of it is free."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from decimal import Decimal

import msgspec

from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import SandboxTrial
from dms.application.ports.machine import Hardware, Usage
from dms.domain.device import Capacity, Device, Offer, check_offer
from dms.domain.device_policy import DevicePolicy
from dms.domain.directory import Offering
from dms.domain.features import INTERNET, SANDBOX, UNDERSTOOD, WORKSPACE
from dms.domain.gpus import GpuReading, recorded_anew, vram_total
from dms.domain.image import parse_image
from dms.domain.network import Network
from dms.domain.reservations import Reservations
from dms.domain.resources import LEAST_MEMORY_MB, Gpu, Resources, least_cpu_mhz
from dms.errors import Conflict, InvalidInput, Outdated

log = logging.getLogger(__name__)

GPU_RETRY_SECONDS = 600.0  # after which GPUs that the engine could not give to a container are offered again
DEFAULT_CHANNEL = "nunet-test"  # of a node that never onboarded: it may still ask for jobs


class DeviceService:
    def __init__(self, log: EventLog, hardware: Hardware, peer_id: str, features: Collection[str] = UNDERSTOOD) -> None:
        """features: what jobs can have here, by name (domain/features.py)."""
        self._log, self._hardware, self._peer_id = log, hardware, peer_id
        self._features = tuple(sorted(features))
        self.reservations = Reservations()
        self.holds = Reservations()
        """Places that are kept for jobs which are not paid yet: from each other, and from nobody who pays."""
        self.gpu_hindrance = ""
        """Why no GPU is offered although there may be some; empty for none. What follows from it, GPUs without free
        memory, is an event. The reason and its time are not: a start tries the GPUs again at once."""
        self._gpus_again_at = 0.0  # monotonic seconds
        self.workspace_trouble = ""
        """Why jobs have no workspace here that can be read or filled; empty when they have one, or until it is known.
        What follows from it for a job, its refusal or that it gives nothing back, is an event."""

    @property
    def hindrance(self) -> str:
        """Why no job can be run here just now, whatever the owner set; empty when one can. That nothing can be recorded
        is the only part of it which is not an event, for it can't be."""
        return self.state.hindrance or self.recording_trouble

    @property
    def recording_trouble(self) -> str:
        """Why nothing can be recorded; empty when it can."""
        return f"nothing can be recorded: {self._log.trouble}" if self._log.trouble else ""

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

    def usage(self) -> Usage:
        """Of all that runs on this machine."""
        return self._hardware.usage()

    def least(self) -> Resources:
        """What the smallest job asks for."""
        total = self.state.total
        return Resources(cpu_mhz=least_cpu_mhz(total.cpu_mhz // max(1, total.cores)), memory_mb=LEAST_MEMORY_MB)

    def free(self) -> Resources:
        """What of the onboarded resources no job holds, nor still takes though it is over."""
        return self.state.offered - self.reservations.total - self.reservations.left

    def offering(self) -> Offering:
        """What the network is told."""
        device = self.state
        total = device.total
        return Offering(
            channel=self.channel,
            online=device.available and not self.hindrance,
            onboarded=device.onboarded,
            total=Resources(cpu_mhz=total.cpu_mhz, memory_mb=total.memory_mb, vram_mb=vram_total(total.gpus)),
            offered=device.offered,
            reserved=self.reservations.total,
            cores=total.cores,
            gpus=self.gpus_left(),
            ntx_price=f"{device.ntx_price:f}",
            blockchain=device.blockchain,
            payment_address=device.payment_address,
            allow_cardano=device.allow_cardano,
            features=self._features_now(device),
        )

    def _features_now(self, device: Device) -> tuple[str, ...]:
        found = {*self._features}
        if device.network == Network.INTERNET:
            found.add(INTERNET)
        if device.sandbox and not device.sandbox_trouble:
            found.add(SANDBOX)
        if not self.workspace_trouble:
            found.add(WORKSPACE)
        return tuple(sorted(found))

    # --- GPUs --------------------------------------------------------------------------------------
    def gpus_left(self) -> tuple[Gpu, ...]:
        """The GPUs on record, with what running jobs leave of them; none unless onboarded."""
        device = self.state
        return self.reservations.left_of(device.total.gpus) if device.onboarded else ()

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        """As they are now; nothing is recorded."""
        return await self._hardware.read_gpus()

    async def see_gpus(self) -> tuple[GpuReading, ...]:
        """The GPUs as they are now; a notable change goes on record and to the network. Bounded in time."""
        readings = await self._hardware.read_gpus()
        if self.gpu_hindrance and asyncio.get_running_loop().time() >= self._gpus_again_at:
            self.gpu_hindrance = ""
        device = self.state
        if device.see_gpus(readings, self.reservations.gpu_jobs(), usable=not self.gpu_hindrance):
            log.info("the GPUs changed: %s", _words(device.total.gpus), extra={"action": "gpus_changed"})
            await self._log.save(device)
        return readings

    def distrust_gpus(self, reason: str) -> None:
        """The engine could not give a GPU to a container: they are not offered for a while, so that this
        machine does not fail one job after the other."""
        log.warning(
            "no GPU is offered for %g min: %s", GPU_RETRY_SECONDS / 60, reason, extra={"action": "gpus_withdrawn"}
        )
        self.gpu_hindrance = reason
        self._gpus_again_at = asyncio.get_running_loop().time() + GPU_RETRY_SECONDS

    async def onboard(self, offer: Offer) -> Device:
        """Raises InvalidInput; Conflict when running jobs hold more than is offered now."""
        readings = await self._hardware.read_gpus()
        self.gpu_hindrance = ""  # the owner may just have mended it
        device = self.state
        gpus = recorded_anew(device.total.gpus, readings, self.reservations.gpu_jobs())
        total = msgspec.structs.replace(self.capacity(), gpus=gpus)
        check_offer(offer, total)  # what is wrong with the offer itself comes first
        self._check_holds(offer.cpu_mhz, offer.memory_mb)
        device.onboard(offer, total)
        await self._log.save(device)
        return device

    async def change_resources(self, cpu_mhz: int, memory_mb: int, ntx_price: Decimal | None = None) -> Device:
        """Raises Conflict unless onboarded or when jobs hold more, InvalidInput out of range."""
        device = self.state
        self._check_holds(cpu_mhz, memory_mb)
        device.change_resources(cpu_mhz, memory_mb, device.ntx_price if ntx_price is None else ntx_price)
        await self._log.save(device)
        return device

    async def set_available(self, available: bool) -> bool:
        """Whether anything changed. Raises Conflict unless onboarded."""
        device = self.state
        changed = device.set_available(available)
        await self._log.save(device)
        return changed

    async def change_default_provider(self, peer_id: str) -> None:
        """peer_id: empty for none. Raises Conflict for this device itself."""
        device = self.state
        device.change_default_provider(peer_id)
        await self._log.save(device)

    def denies(self, peer_id: str) -> bool:
        """Whether its owner wants nothing of that peer."""
        return self.state.policy.denies(peer_id)

    def objection_to_image(self, image: str, digest: str = "") -> str:
        """By the owner's list; empty when there is none. digest: where it is known. What is no image's name is refused
        for that elsewhere."""
        try:
            reference = parse_image(image)
        except InvalidInput:
            return ""
        return self.state.policy.objection_to_image(reference, [digest])

    async def change_policy(self, policy: DevicePolicy, known: Collection[str] | None = None) -> bool:
        """Whether anything changed. known: digests of the policies that may be replaced; None: whichever is there.
        Raises InvalidInput, naming each entry that is wrong; Outdated when another one is there."""
        device = self.state
        if known is not None and device.policy.digest not in known:
            await self._log.save(device)  # of that change: who reads again reads what is there
            raise Outdated("the lists were changed meanwhile; read them again")
        changed = device.change_policy(policy)
        await self._log.save(device)
        return changed

    async def offboard(self, forced: bool) -> None:
        """Raises Conflict when not onboarded, or while jobs run (unless forced)."""
        if self.reservations and not forced:
            raise Conflict(f"{len(self.reservations)} job(s) run on this machine; wait for them, or use force")
        device = self.state
        device.offboard(forced)
        await self._log.save(device)

    async def hinder(self, reason: str) -> bool:
        """Whether that is news. reason: empty when jobs can be run again, as far as the caller knows."""
        device = self.state
        changed = device.hinder(reason) if reason else device.unhinder()
        await self._log.save(device)
        return changed

    async def give_network(self, network: Network, reason: str = "") -> bool:
        """Whether that is news. network: the most that a job is given. reason: why it is no more."""
        device = self.state
        changed = device.give_network(network, reason)
        await self._log.save(device)
        return changed

    async def see_sandbox(self, trial: SandboxTrial) -> bool:
        """Whether that is news."""
        device = self.state
        changed = device.see_sandbox(trial.engine, trial.rows)
        await self._log.save(device)
        return changed

    def _check_holds(self, cpu_mhz: int, memory_mb: int) -> None:
        short = Resources(cpu_mhz=cpu_mhz, memory_mb=memory_mb, vram_mb=self.reservations.total.vram_mb).shortfalls(
            self.reservations.total
        )
        if short:
            raise Conflict(f"running jobs hold more than that ({'; '.join(short)}); wait for them to end")


def _words(gpus: tuple[Gpu, ...]) -> str:
    return ", ".join(f"{gpu.name} {gpu.uuid} ({gpu.free_vram_mb} of {gpu.total_vram_mb} MB)" for gpu in gpus) or "none"
