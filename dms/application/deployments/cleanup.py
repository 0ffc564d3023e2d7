"""Gives disk space back: containers of jobs that are over, and images that a newer one of the same name replaced.

Only what this node made or pulled itself, as its log says, is ever touched.
"""

from __future__ import annotations

import asyncio
import logging

from dms.application.deployments.compute_provider import ComputeProvider
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Executor
from dms.domain.deployment import Deployment
from dms.errors import Conflict, DmsError

log = logging.getLogger(__name__)

PAGE = 1000
RETRY_SECONDS = 60.0
IDS_KEPT = 100  # of one name; what was pulled before that has long been looked at


class Cleaner:
    """Runs at the start and then every interval. All of it may be repeated or left off at any point."""

    def __init__(
        self,
        event_log: EventLog,
        compute: ComputeProvider,
        executor: Executor,
        interval_seconds: float,
        loops: Loops | None = None,
    ) -> None:
        self._log, self._compute, self._executor = event_log, compute, executor
        self._interval_seconds = interval_seconds
        self._loops = loops or Loops()
        self._pulled: dict[str, list[str]] = {}  # name -> ids of the images that we pulled under it, oldest first
        self._position = 0
        self._running: Loop | None = None

    async def start(self) -> None:
        self._running = self._loops.start("cleanup", self._run)

    async def close(self) -> None:
        if self._running is not None:
            await self._running.close()

    async def clean(self) -> list[str]:
        """The ids of the images removed. Raises DmsError when the engine or the log is away, and while a job is
        being prepared."""
        await self._compute.leftovers.sweep()
        await self._read_log()
        removed: list[str] = []
        for name, image_ids in list(self._pulled.items()):
            if self._compute.preparing:  # the image that it was just given must not go before its container is there
                raise Conflict("a job is being prepared")
            gone = await self._executor.remove_superseded(name, image_ids)
            if gone:
                log.info("images of %s removed: a newer one replaced %s", name, ", ".join(gone))
            removed += gone
        return removed

    async def _read_log(self) -> None:
        while self._position < (head := self._log.head):
            found = await self._log.read(self._position, PAGE, topics=(Deployment.ImagePulled.TOPIC,))
            for recorded in found:
                event = recorded.event
                if isinstance(event, Deployment.ImagePulled) and event.fetched:
                    ids = self._pulled.setdefault(event.image, [])
                    self._pulled[event.image] = [*(i for i in ids if i != event.image_id), event.image_id][-IDS_KEPT:]
            self._position = found[-1].position if len(found) == PAGE else head

    async def _run(self) -> None:
        while True:
            pause = self._interval_seconds
            try:
                await self.clean()
            except DmsError as error:
                log.info("cleaning up waits: %s", error, extra={"action": "cleanup_waits"})
                pause = min(pause, RETRY_SECONDS)
            await asyncio.sleep(pause)
