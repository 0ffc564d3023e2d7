"""This machine: its hardware, and what the doctor reads of it."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from dms.domain.device import Capacity
from dms.domain.gpus import GpuReading
from dms.domain.machine_checks import MachineFacts


class Usage(Struct, frozen=True, gc=False):
    """Of a running execution. cpu_seconds: since its start, over all cores. memory_mb: MiB, without what the kernel
    keeps of files and would give back. measured_at_seconds: of a clock that is not stepped."""

    cpu_seconds: float
    memory_mb: int
    measured_at_seconds: float


class Hardware(Protocol):
    """What this machine has. Figures of the total are stable between calls."""

    def capacity(self) -> Capacity:
        """CPU and memory; its GPUs are asked for with `read_gpus`."""

    def usage(self) -> Usage:
        """Of all that runs on it, ours or not. cpu_seconds: since its boot."""

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        """Now, in bounded time. No driver, a hung or a broken one: no GPUs, never an error."""


class MachineReader(Protocol):
    async def facts(self, engine_root: str = "") -> MachineFacts:
        """As they are now. engine_root: the engine's folder, empty where this machine can't see it."""
