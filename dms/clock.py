"""This machine's clocks, as the run time of jobs is measured by them."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from dms.domain.run_time import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_clock() -> Instant:
    return Instant(_boot_id(), boot_us(), time.time_ns() // 1_000)


def boot_us() -> int:
    """Microseconds since the machine was started, time asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


@cache
def _boot_id() -> str:
    return _BOOT_ID.read_text("ascii").strip()
