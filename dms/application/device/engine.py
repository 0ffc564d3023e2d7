"""Whether the container engine answers, and keeps jobs in as it should: asked before a deployment is accepted, and now
and then so that the network does not send jobs to a machine whose engine is away. Once it is back, what could not be
removed meanwhile is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from dms.application.device.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.ports.executor import Executor
from dms.application.tasks import cancelled
from dms.backoff import Backoff
from dms.domain.gpus import GpuReading
from dms.errors import DmsError, ExecutionError, ExecutorUnavailable, LogUnavailable, NotFound

log = logging.getLogger(__name__)

PING_SECONDS = 10.0  # on a machine that its jobs keep busy, an engine takes seconds to answer
LOOK_SECONDS = 10.0
WORKSPACE_SECONDS = 60.0
SOON_SECONDS = 1.0  # between two looks while it is away, and until the next once something could not be removed
ENGINE_GRACE_SECONDS = 60.0  # how long jobs that were promised a place wait for an engine that went away
SWEEP_LOOKS = (2, 60)  # from one try to remove what was left behind to the next: at first, and at most


class EngineWatch:
    """Records what hinders the device. unfit: a lasting reason why peers' jobs can't run here. sweep: removes what
    was left behind, and tells what stays; called when the engine answers again, and when it is owed."""

    def __init__(
        self,
        executor: Executor,
        device: DeviceService,
        sweep: Callable[[], Awaitable[Sequence[str]]],
        loops: Loops,
        unfit: str = "",
    ) -> None:
        self._executor, self._device, self._sweep = executor, device, sweep
        self._loops, self._unfit = loops, unfit
        self._on_return: Callable[[], None] = lambda: None
        self._owed = self._away = False
        self._away_since = 0.0  # of the loop's clock
        self._owing = asyncio.Event()
        self._looks_to_wait, self._backoff = 0, Backoff(*SWEEP_LOOKS)  # what can't be removed is not tried every time
        self._looking: Loop | None = None
        self._trying: Loop | None = None
        self._pinging: asyncio.Task[None] | None = None

    def on_return(self, react: Callable[[], None]) -> None:
        """Calls `react` each time that the engine answers again."""
        self._on_return = react

    async def start(self) -> None:
        try:
            await self.ping()
        except LogUnavailable as error:  # the next look tells it
            log.warning("whether jobs can be run is not recorded: %s", error)
        self._looking = self._loops.start("engine watch", self._look_on)
        self._trying = self._loops.every(WORKSPACE_SECONDS, "workspace watch", self._see_workspaces)

    async def close(self) -> None:
        if self._looking is not None:
            await self._looking.close()
        if self._trying is not None:
            await self._trying.close()
        if self._pinging is not None:
            await cancelled(self._pinging)

    async def look(self, *, gpus: bool) -> Sequence[GpuReading]:
        """Sees whether jobs can be run now, and answers its GPUs as they are if they are asked for. What it sees is in
        the device's state then. Raises LogUnavailable."""
        if not gpus:
            await self.ping()
            return ()
        _, readings = await asyncio.gather(self.ping(), self._device.see_gpus())
        return readings

    async def ping(self) -> None:
        """Records whether jobs can be run. Callers at the same time share one ping. Raises LogUnavailable."""
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping(), name="engine ping")
        await asyncio.shield(self._pinging)

    @property
    def is_briefly_away(self) -> bool:
        """Whether it went away a moment ago, and has not answered since."""
        return self._away and asyncio.get_running_loop().time() - self._away_since <= ENGINE_GRACE_SECONDS

    def owe_sweep(self) -> None:
        """Something could not be removed. Only in memory: each start sweeps."""
        self._owed = True
        self._owing.set()

    async def _ping(self) -> None:
        absence = await self._absence()
        same_absence = self._away and bool(absence)
        if self._away and not absence:
            self._on_return()
        if absence and not self._away:
            self._away_since = asyncio.get_running_loop().time()
        self._owed, self._away = self._owed or bool(absence), bool(absence)
        if same_absence and self._device.state.hindrance:
            return  # its first words stand: each try may have others, and nothing has changed
        reason = self._unfit or absence or self._device.state.sandbox_trouble
        if await self._device.hinder(reason):
            level = logging.WARNING if reason else logging.INFO
            log.log(level, "jobs of peers: %s", reason or "taken again", extra={"action": "engine_changed"})

    async def _absence(self) -> str:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._executor.check()
        except TimeoutError:
            return f"the provider's container engine does not answer within {PING_SECONDS:g} s"
        except (ExecutorUnavailable, ExecutionError, NotFound) as error:
            return f"the provider's container engine does not answer: {error}"
        return ""

    async def _look_on(self) -> None:
        while True:
            await self._rest()
            await self._watch()
            if self._looking is not None:
                self._looking.well()

    async def _rest(self) -> None:
        soon = min(SOON_SECONDS, LOOK_SECONDS)
        if not self._away:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS - soon):
                    await self._owing.wait()
        self._owing.clear()
        await asyncio.sleep(soon)

    async def _watch(self) -> None:
        await self.ping()
        if self._owed and not self._away:
            await self._sweep_again()

    async def _see_workspaces(self) -> None:
        """While the engine is away, what was seen last counts: no job runs then."""
        try:
            trouble = await self._executor.workspace_trouble()
        except (ExecutorUnavailable, NotFound) as error:
            log.info("whether jobs can have workspaces is not known: %s", error)
            return
        if trouble != self._device.workspace_trouble:
            log.warning("workspaces of jobs: %s", trouble or "they can be had now")
            self._device.workspace_trouble = trouble

    async def _sweep_again(self) -> None:
        if self._looks_to_wait > 0:
            self._looks_to_wait -= 1
            return
        self._owed = False  # first: what fails from here on is owed anew
        try:
            left: Sequence[str] = await self._sweep()
        except DmsError as error:
            log.info("what was left behind stays for now: %s", error, extra={"action": "sweep_waits"})
            left = ("",)
        self._owed = self._owed or bool(left)
        if left:
            self._looks_to_wait = int(self._backoff.next()) - 1
        else:
            self._backoff.reset()
