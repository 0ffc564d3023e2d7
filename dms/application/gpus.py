"""Keeps an eye on the GPUs, so that the network hears of a card that is lost, found, or used by something else."""

from __future__ import annotations

import asyncio
import logging

from dms.application.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.errors import LogUnavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
SETTLE_SECONDS = 2.0  # a container that ended gives its memory back a moment later


class GpuWatch:
    def __init__(self, device: DeviceService, loops: Loops) -> None:
        self._device, self._loops = device, loops
        self._stirred = asyncio.Event()
        self._looking: Loop | None = None

    def start(self) -> None:
        self._looking = self._loops.start("GPU watch", self._record_changes)

    async def close(self) -> None:
        if self._looking is not None:
            await self._looking.close()

    def look_soon(self) -> None:
        self._stirred.set()

    async def _record_changes(self) -> None:
        while True:
            try:
                await self._device.see_gpus()
            except LogUnavailable as error:
                log.warning("the GPUs' state is not recorded: %s", error)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._stirred.wait()
                self._stirred.clear()
                await asyncio.sleep(SETTLE_SECONDS)
            except TimeoutError:
                continue
