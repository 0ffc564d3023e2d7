"""NVIDIA GPUs through NVML, the driver's own library (`libnvidia-ml.so.1`), with nvidia-ml-py.

A call into a hung driver never returns and can't be interrupted, so each reading runs in a daemon thread
that may be left behind: at most one at a time, and nobody waits for it longer than `patience_seconds` from
its start. The library is kept open between readings: opening it wakes every card of a machine without
persistence mode, which takes a second or two for each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import pynvml

from dms.domain.gpus import GpuReading

logger = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE_SECONDS = 5.0
KEEP_SECONDS = 30.0  # how long the last reading stands in for one that is late
REOPEN_SECONDS = 600.0  # a card that was added is only seen by who opens the library
_MIB = 1024 * 1024
_ABSENT = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)


class NvidiaGpus:
    """`read` may be called from any thread. What is wrong is said once, until something else is."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS, keep_seconds: float = KEEP_SECONDS) -> None:
        self._patience, self._keep = patience_seconds, keep_seconds
        self._lock = threading.Lock()
        self._reading: Future[tuple[GpuReading, ...]] | None = None
        self._begun = 0.0
        self._last: tuple[float, tuple[GpuReading, ...]] | None = None  # when it ended, and what it found
        self._opened_at: float | None = None  # of the one thread that reads
        self._said: dict[str, str] = {}

    def read(self) -> tuple[GpuReading, ...]:
        """The GPUs that answer, in the driver's order. None without library or driver, or when it hangs."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading, self._begun = Future(), time.monotonic()
                threading.Thread(target=self._fill, args=(self._reading,), name="nvml", daemon=True).start()
            reading, left = self._reading, self._begun + self._patience - time.monotonic()
        try:
            return reading.result(max(0.0, left))
        except TimeoutError:
            return self._instead()

    def _instead(self) -> tuple[GpuReading, ...]:
        """Of a reading that is late."""
        last = self._last
        if last is not None and time.monotonic() - last[0] < self._keep:
            return last[1]
        self._say("driver", f"the NVIDIA driver does not answer within {self._patience:g} s", logging.WARNING)
        return ()

    def _fill(self, reading: Future[tuple[GpuReading, ...]]) -> None:
        try:
            found = self._read()
        except BaseException as error:  # whoever waits must hear of it
            reading.set_exception(error)
            raise
        self._last = (time.monotonic(), found)
        reading.set_result(found)

    def _read(self) -> tuple[GpuReading, ...]:
        """Opens the library anew after any trouble, and now and then."""
        try:
            if self._opened_at is None:
                pynvml.nvmlInit()
                self._opened_at = time.monotonic()
            count = int(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError as error:
            self._say("driver", *_why(error))
            self._close()
            return ()
        self._said.pop("driver", None)
        found = tuple(gpu for gpu in map(self._gpu, range(count)) if gpu is not None)
        if len(found) < count or time.monotonic() - self._opened_at > REOPEN_SECONDS:
            self._close()
        return found

    def _close(self) -> None:
        if self._opened_at is None:
            return
        self._opened_at = None
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            logger.debug("NVML can't be closed: %s", error)

    def _gpu(self, index: int) -> GpuReading | None:
        """None for a card that fell out, or is broken: the others go on."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            reading = GpuReading(
                name=str(pynvml.nvmlDeviceGetName(handle)),
                uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
                vendor="nvidia",
                total_vram_mb=int(memory.total) // _MIB,
                used_vram_mb=int(memory.used) // _MIB,
                free_vram_mb=int(memory.free) // _MIB,
                utilization_percent=_optional(lambda: int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
                temperature_celsius=_optional(
                    lambda: int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
                ),
                power_watts=_optional(lambda: round(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1)),
                compute_processes=_compute_processes(handle),
            )
        except (pynvml.NVMLError, ValueError) as error:  # a name that is not UTF-8 is a ValueError
            self._say(f"GPU {index}", f"GPU {index} is not offered: {error}", logging.WARNING)
            return None
        self._said.pop(f"GPU {index}", None)
        return reading

    def _say(self, what: str, text: str, level: int) -> None:
        if self._said.get(what) != text:
            self._said[what] = text
            logger.log(level, "%s", text, extra={"action": "gpus_not_offered"})


def _why(error: Any) -> tuple[str, int]:
    """A machine without a driver is as it should be; a driver that fails is not."""
    level = logging.INFO if error.value in _ABSENT else logging.WARNING
    return f"no NVIDIA GPU is offered: {error}", level


def _optional(read: Callable[[], T]) -> T | None:
    """None for what this card or an old driver does not tell."""
    try:
        return read()
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise
        return None


def _compute_processes(handle: Any) -> int | None:
    """By the newest of the calls that the driver has; all of them count the same processes."""
    for call in (pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2):
        processes = _optional(partial(call, handle))
        if processes is not None:
            return len(processes)
    return None
