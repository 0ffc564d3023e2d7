"""The hardware probes as the application's port."""

from __future__ import annotations

import asyncio

from dms.adapters.hardware.nvidia import NvidiaGpus
from dms.adapters.hardware.probe import HardwareProbe
from dms.application.ports.machine import Usage
from dms.domain.device import Capacity
from dms.domain.gpus import GpuReading


class ProbedHardware:
    """Implements Hardware."""

    def __init__(self, probe: HardwareProbe, gpus: NvidiaGpus) -> None:
        self._probe, self._gpus = probe, gpus

    def capacity(self) -> Capacity:
        found = self._probe.read()
        return Capacity(cpu_mhz=found.cpu_mhz, memory_mb=found.memory_mb, cores=found.cores)

    def usage(self) -> Usage:
        return self._probe.usage()

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        return await asyncio.to_thread(self._gpus.read)
