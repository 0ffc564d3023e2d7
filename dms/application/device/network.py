"""Which network this machine gives to jobs: tried out once it is onboarded, at each start, and again now and then while
it is less than it could be."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from dms.application.device.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Executor, NetworkGiven
from dms.backoff import Backoff
from dms.domain.device import Device
from dms.domain.network import Network
from dms.errors import ExecutorUnavailable, LogUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
TRY_LOOKS = (2, 30)  # from one try to the next: at first, and at most


class NetworkWatch:
    """Records in the device's state what a try found."""

    def __init__(self, event_log: EventLog, executor: Executor, device: DeviceService, loops: Loops) -> None:
        self._log, self._executor, self._device, self._loops = event_log, executor, device, loops
        self._known = False  # since the start of this process
        self._looks_to_wait, self._backoff = 1, Backoff(*TRY_LOOKS)
        self._trying = asyncio.Lock()
        self._running: list[Loop] = []

    async def start(self) -> None:
        """Nobody waits for a try: what the log says of it stands until then."""
        self._running = [
            self._loops.start("network of a machine just onboarded", self._follow),
            self._loops.every(LOOK_SECONDS, "network watch", self._look, at_once=False),
        ]

    async def close(self) -> None:
        for loop in self._running:
            await loop.close()

    async def distrust(self, reason: str) -> None:
        """A job could not be given its network: no other gets one before a try shows that it can."""
        self._looks_to_wait = 1
        self._backoff.reset()
        await self._record(NetworkGiven(network=Network.NONE, reason=reason))

    async def _follow(self) -> None:
        batches = self._log.subscribe(self._log.head, topics=(Device.Onboarded.TOPIC,))
        await self._try()
        async with aclosing(batches):
            async for _ in batches:
                await self._try()

    async def _look(self) -> None:
        self._looks_to_wait -= 1
        if self._looks_to_wait <= 0:
            await self._try_unless_known()
            self._looks_to_wait = int(self._backoff.next())

    async def _try_unless_known(self) -> None:
        if not (self._known and self._device.state.network == Network.INTERNET):
            await self._try()

    async def _try(self) -> None:
        """While the engine is away, what was recorded last counts: no job runs then."""
        if not self._device.state.onboarded:
            return
        try:
            async with self._trying:
                await self._record(await self._executor.try_network())
                self._known = True
        except (ExecutorUnavailable, LogUnavailable) as error:
            log.warning("which network jobs can be given is not known yet: %s", error)

    async def _record(self, given: NetworkGiven) -> None:
        if await self._device.give_network(given.network, given.reason):
            level = logging.WARNING if given.reason else logging.INFO
            words = f"{given.network.value}: {given.reason}" if given.reason else given.network.value
            log.log(level, "the network that jobs are given: %s", words, extra={"action": "network_changed"})
