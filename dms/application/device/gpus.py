"""Keeps an eye on the GPUs, so that the network hears of a card that is lost, found, or used by something else."""

from __future__ import annotations

import asyncio
import logging

from dms.application.device.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.reactors import News, Reactor
from dms.domain.deployment import Deployment
from dms.errors import LogUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
SETTLE_SECONDS = 2.0  # a container that ended gives its memory back a moment later


class GpuWatch:
    """Now and then."""

    def __init__(self, device: DeviceService, loops: Loops) -> None:
        self._device, self._loops = device, loops
        self._looking: Loop | None = None

    def start(self) -> None:
        self._looking = self._loops.every(LOOK_SECONDS, "GPU watch", self._record_changes)

    async def close(self) -> None:
        if self._looking is not None:
            await self._looking.close()

    async def _record_changes(self) -> None:
        try:
            await self._device.see_gpus()
        except LogUnavailable as error:
            log.warning("the GPUs' state is not recorded: %s", error)


class LookAtGpus(Reactor[Deployment]):
    """When a job gave its GPUs back. What is seen is an event of the device."""

    name = "look at GPUs given back"
    kind = Deployment
    topics = (Deployment.ContainerExited.TOPIC, Deployment.Failed.TOPIC, Deployment.Stopped.TOPIC)
    recorded = False

    def __init__(self, device: DeviceService) -> None:
        self._device = device

    def due(self, aggregate: Deployment) -> bool:
        return aggregate.ended and bool(aggregate.gpu_uuids)

    async def react(self, aggregate: Deployment, news: News) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        await self._device.see_gpus()
