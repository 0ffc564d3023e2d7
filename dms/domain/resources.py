"""Amounts of compute: CPU in MHz, memory in MB (MiB, as the original counts), VRAM in MB."""

from __future__ import annotations

import math

from msgspec import Struct

# What every container engine gives at least, whatever is asked for.
LEAST_MEMORY_MB = 6
LEAST_CORES = 0.01
LEAST_CPU_MHZ = 10  # that part of a core of 1 GHz: no machine's is less


def least_cpu_mhz(core_mhz: int) -> int:
    """core_mhz: of one core of the machine."""
    return max(LEAST_CPU_MHZ, math.ceil(core_mhz * LEAST_CORES))


class Resources(Struct, frozen=True, kw_only=True, gc=False):
    cpu_mhz: int = 0
    memory_mb: int = 0
    vram_mb: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            cpu_mhz=self.cpu_mhz + other.cpu_mhz,
            memory_mb=self.memory_mb + other.memory_mb,
            vram_mb=self.vram_mb + other.vram_mb,
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            cpu_mhz=self.cpu_mhz - other.cpu_mhz,
            memory_mb=self.memory_mb - other.memory_mb,
            vram_mb=self.vram_mb - other.vram_mb,
        )

    def shortfalls(self, needed: Resources) -> list[str]:
        """In words, each resource of which there is less than needed; empty when it fits."""
        pairs = (
            ("CPU", "MHz", needed.cpu_mhz, self.cpu_mhz),
            ("memory", "MB", needed.memory_mb, self.memory_mb),
            ("VRAM", "MB", needed.vram_mb, self.vram_mb),
        )
        return [f"{asked} {unit} {name} asked, {free} free" for name, unit, asked, free in pairs if asked > free]


LEAST = Resources(cpu_mhz=LEAST_CPU_MHZ, memory_mb=LEAST_MEMORY_MB)
"""What no job asks for less than, on whatever machine."""


class Gpu(Struct, frozen=True, kw_only=True, gc=False):
    """uuid: the driver's own, stable over reboots. taken: nothing of it can be had. shared: jobs that
    share hold it, and only another such job can have what is free."""

    name: str
    uuid: str = ""
    total_vram_mb: int = 0
    free_vram_mb: int = 0
    taken: bool = False
    shared: bool = False
