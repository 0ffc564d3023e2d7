"""The sandbox of jobs on this machine, tried from inside a test container: at each start of an onboarded machine, when
its engine comes back or is a different one, on demand, and again now and then while something fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from dms.application.device.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Executor, SandboxTrial
from dms.application.tasks import cancelled
from dms.backoff import Backoff
from dms.domain.device import Device
from dms.errors import ExecutorUnavailable, LogUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
TRY_LOOKS = (1, 30)  # from one try to the next while something fails: at first, and at most


class SandboxWatch:
    """Records what a try found in the device's state. tell: called when that is news."""

    def __init__(
        self,
        event_log: EventLog,
        executor: Executor,
        device: DeviceService,
        tell: Callable[[], Awaitable[None]],
        loops: Loops,
    ) -> None:
        self._log, self._executor, self._device, self._tell, self._loops = event_log, executor, device, tell, loops
        self._looks_to_wait, self._backoff = 1, Backoff(*TRY_LOOKS)
        self._owed = asyncio.Event()
        self._engine: str | None = None  # as of the last try of this process
        self._trying: asyncio.Task[SandboxTrial] | None = None
        self._running: list[Loop] = []

    async def start(self) -> None:
        """Nobody waits for a try: until it is done, what the log says counts."""
        self._owed.set()
        self._running = [
            self._loops.start("sandbox of a machine just onboarded", self._follow),
            self._loops.start("sandbox test", self._try_when_owed),
            self._loops.every(LOOK_SECONDS, "sandbox watch", self._look, at_once=False),
        ]

    async def close(self) -> None:
        for loop in self._running:
            await loop.close()
        if self._trying is not None:
            await cancelled(self._trying)

    @property
    def known(self) -> SandboxTrial:
        """What is recorded of it."""
        device = self._device.state
        return SandboxTrial(engine=device.engine, rows=device.sandbox)

    def owe_trial(self) -> None:
        """The engine may be another one than before."""
        self._owed.set()

    async def trial(self) -> SandboxTrial:
        """Tries it anew; callers at the same time share one try. On an onboarded machine a new result is
        recorded. Raises ExecutorUnavailable, LogUnavailable."""
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try(), name="sandbox trial")
        return await asyncio.shield(self._trying)

    async def _try(self) -> SandboxTrial:
        trial = await self._executor.try_sandbox()
        self._engine = trial.engine
        if await self._device.see_sandbox(trial):
            trouble = self._device.state.sandbox_trouble
            level = logging.WARNING if trouble else logging.INFO
            log.log(level, "the sandbox of jobs: %s", trouble or "it holds", extra={"action": "sandbox_tested"})
            await self._tell()
        return trial

    async def _follow(self) -> None:
        async with aclosing(self._log.subscribe(self._log.head, topics=(Device.Onboarded.TOPIC,))) as batches:
            async for _ in batches:
                self._owed.set()

    async def _try_when_owed(self) -> None:
        """While the engine is away, what was recorded last counts: no job runs then."""
        while True:
            await self._owed.wait()
            self._owed.clear()
            if not self._device.state.onboarded:
                continue
            try:
                await self.trial()
            except (ExecutorUnavailable, LogUnavailable) as error:
                log.warning("the sandbox of jobs could not be tried: %s", error)

    async def _look(self) -> None:
        if not self._device.state.onboarded:
            return
        if await self._is_another_engine():
            self._owed.set()
            return
        if not self._device.state.sandbox_trouble:
            self._backoff.reset()
            return
        self._looks_to_wait -= 1
        if self._looks_to_wait <= 0:
            self._looks_to_wait = int(self._backoff.next())
            self._owed.set()

    async def _is_another_engine(self) -> bool:
        """Also one that was not tried yet."""
        try:
            facts = await self._executor.engine_facts()
        except ExecutorUnavailable:
            return False
        return facts is not None and facts.name != self._engine


class LoneSandbox:
    """For a DMS that does not run: nothing is known beforehand, and nothing is recorded."""

    known = SandboxTrial()

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def trial(self) -> SandboxTrial:
        return await self._executor.try_sandbox()
