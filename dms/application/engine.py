"""Whether the container engine answers: asked before a deployment is accepted, and now and then so that
the network does not send jobs to a machine whose engine is away."""

from __future__ import annotations

import asyncio
import logging

from dms.application.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.ports import Executor
from dms.application.tasks import cancelled
from dms.errors import ExecutionError, ExecutorUnavailable, NotFound

log = logging.getLogger(__name__)

PING_SECONDS = 3.0
LOOK_SECONDS = 10.0


class EngineWatch:
    """Tells the device what hinders it. unfit: a lasting reason why peers' jobs can't run here."""

    def __init__(self, executor: Executor, device: DeviceService, loops: Loops, unfit: str = "") -> None:
        self._executor, self._device, self._loops, self._unfit = executor, device, loops, unfit
        self._looking: Loop | None = None
        self._pinging: asyncio.Task[str] | None = None

    async def start(self) -> None:
        await self.ping()
        self._looking = self._loops.every(LOOK_SECONDS, "engine watch", self._look, at_once=False)

    async def close(self) -> None:
        if self._looking is not None:
            await self._looking.close()
        if self._pinging is not None:
            await cancelled(self._pinging)

    async def ping(self) -> str:
        """Why no job can be run now; empty when one can. Callers at the same time share one ping."""
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping(), name="engine ping")
        return await asyncio.shield(self._pinging)

    async def _ping(self) -> str:
        reason = self._unfit or await self._absence()
        if bool(reason) != bool(self._device.hindrance):
            level = logging.WARNING if reason else logging.INFO
            log.log(level, "jobs of peers: %s", reason or "taken again", extra={"action": "engine_changed"})
        self._device.hinder(reason)
        return reason

    async def _absence(self) -> str:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._executor.check()
        except TimeoutError:
            return f"the provider's container engine does not answer within {PING_SECONDS:g} s"
        except (ExecutorUnavailable, ExecutionError, NotFound) as error:
            return f"the provider's container engine does not answer: {error}"
        return ""

    async def _look(self) -> None:
        await self.ping()
