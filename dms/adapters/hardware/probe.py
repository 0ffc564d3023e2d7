"""What this machine has to offer: CPU and memory through psutil, NVIDIA GPUs through NVML.

CPU is counted as the original counts it, in MHz summed over the cores; it is read once, because the
figure of the moment wanders with load and an offer must not. Memory and GPUs are read each time.
"""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

import psutil
import pynvml
from msgspec import Struct

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024
_CPUINFO = Path("/proc/cpuinfo")
_GUESSED_MHZ = 1_000  # neither the driver nor /proc says: the least that a core of today has


class Gpu(Struct, frozen=True, kw_only=True):
    """vendor: "nvidia". Memory in MiB."""

    name: str
    uuid: str
    total_vram_mb: int
    free_vram_mb: int
    vendor: str


class Hardware(Struct, frozen=True, kw_only=True):
    """cpu_mhz: summed over all cores. memory_mb: all that is fitted, in MiB."""

    cpu_mhz: int
    cores: int
    memory_mb: int
    gpus: tuple[Gpu, ...]

    @property
    def core_mhz(self) -> int:
        """Of one core, on average; at least 1."""
        return max(self.cpu_mhz // max(self.cores, 1), 1)


class HardwareProbe:
    """`read` may be called from any thread."""

    def __init__(self) -> None:
        self._core_mhz: list[int] = []
        self._said_no_gpus = False
        self._lock = threading.Lock()

    def read(self) -> Hardware:
        """Takes about a millisecond without GPUs. Never fails for want of a driver."""
        with self._lock:
            if not self._core_mhz:
                self._core_mhz = _core_frequencies()
            return Hardware(
                cpu_mhz=sum(self._core_mhz),
                cores=len(self._core_mhz),
                memory_mb=psutil.virtual_memory().total // _MIB,
                gpus=self._nvidia_gpus(),
            )

    def _nvidia_gpus(self) -> tuple[Gpu, ...]:
        """Opened and closed each time: a driver that is updated or a card that falls out is seen."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._say_no_gpus(error)
            return ()
        try:
            return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
        except pynvml.NVMLError as error:
            self._say_no_gpus(error)
            return ()
        finally:
            pynvml.nvmlShutdown()

    def _say_no_gpus(self, error: Exception) -> None:
        if not self._said_no_gpus:
            self._said_no_gpus = True
            logger.info("no NVIDIA GPU is offered: %s", error)


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        total_vram_mb=int(memory.total) // _MIB,
        free_vram_mb=int(memory.free) // _MIB,
        vendor="nvidia",
    )


def _text(value: str | bytes) -> str:
    """Older versions of the library answer bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


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
