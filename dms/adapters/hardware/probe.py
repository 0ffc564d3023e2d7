"""What this machine has to offer of CPU and memory, through psutil.

CPU is counted as the original counts it, in MHz summed over the cores; it is read once, because the
figure of the moment wanders with load and an offer must not. Memory is read each time.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import psutil
from msgspec import Struct

from dms.application.ports.machine import Usage

_MIB = 1024 * 1024
_CPUINFO = Path("/proc/cpuinfo")
_GUESSED_MHZ = 1_000  # neither the driver nor /proc says: the least that a core of today has


class Hardware(Struct, frozen=True, kw_only=True):
    """cpu_mhz: summed over all cores. memory_mb: all that is fitted, in MiB."""

    cpu_mhz: int
    cores: int
    memory_mb: int

    @property
    def core_mhz(self) -> int:
        """Of one core, on average; at least 1."""
        return max(self.cpu_mhz // max(self.cores, 1), 1)


class HardwareProbe:
    """`read` may be called from any thread."""

    def __init__(self) -> None:
        self._core_mhz: list[int] = []
        self._lock = threading.Lock()

    def read(self) -> Hardware:
        """Takes about a millisecond."""
        with self._lock:
            if not self._core_mhz:
                self._core_mhz = _core_frequencies()
            return Hardware(
                cpu_mhz=sum(self._core_mhz),
                cores=len(self._core_mhz),
                memory_mb=psutil.virtual_memory().total // _MIB,
            )

    def usage(self) -> Usage:
        """Of the whole machine. Takes less than a tenth of a millisecond."""
        memory = psutil.virtual_memory()
        return Usage(_busy_seconds(), (memory.total - memory.available) // _MIB, time.monotonic())


def _busy_seconds() -> float:
    """Of all cores together since the boot. A guest's time is in its host's `user` and `nice` too."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _core_frequencies() -> list[int]:
    """MHz per core: the most it can do; what it does now where the driver does not tell the most
    (virtual machines); /proc/cpuinfo where there is no driver at all."""
    cores = psutil.cpu_count(logical=True) or 1
    told = [round(core.max or core.current) for core in psutil.cpu_freq(percpu=True) or []]
    told = [mhz for mhz in told if mhz > 0] or cpuinfo_frequencies(_CPUINFO.read_text("utf-8"))
    if len(told) == cores:
        return told
    return [told[0] if told else _GUESSED_MHZ] * cores


def cpuinfo_frequencies(cpuinfo: str) -> list[int]:
    """MHz per core as /proc/cpuinfo has them; empty where it has none (ARM)."""
    return [round(float(found)) for found in re.findall(r"^cpu MHz\s*:\s*([0-9.]+)", cpuinfo, re.MULTILINE)]
