"""Tells the network anew when what it is told of this machine has changed, as the log says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.domain.deployment import Deployment
from dms.domain.device import Device

TOPICS = sorted({
    *(event.TOPIC for event in Device.event_types() - {Device.DefaultProviderChanged, Device.PolicyChanged}),
    Deployment.Accepted.TOPIC, Deployment.ContainerExited.TOPIC, Deployment.Failed.TOPIC, Deployment.Stopped.TOPIC,
})  # fmt: skip


class AvailabilityNews:
    def __init__(self, log: EventLog, tell: Callable[[], None], loops: Loops | None = None) -> None:
        """tell: has the network told of this machine as it is now; again is harmless."""
        self._log, self._tell, self._loops = log, tell, loops or Loops()
        self._following: Loop | None = None
        log.on_trouble(tell)  # that nothing can be recorded is the one hindrance that can't be an event

    async def start(self) -> None:
        self._following = self._loops.start("news of availability", self._follow)

    async def close(self) -> None:
        if self._following is not None:
            await self._following.close()

    async def _follow(self) -> None:
        batches = self._log.subscribe(self._log.head, topics=TOPICS)
        self._tell()  # of what happened before
        async with aclosing(batches):
            async for _ in batches:
                self._tell()
