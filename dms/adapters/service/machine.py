"""Reads what this machine tells of its clock, its disks, its limits, modes of the key files, its GPU toolkit."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from dms.domain.machine_checks import ClockFacts, KeyFacts, MachineFacts, StoreFacts

_STA_UNSYNC = 0x0040  # Source: Linux, include/uapi/linux/timex.h
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")  # Source: systemd-timesyncd.service(8)
_TOOLKIT_PROGRAMS, _TOOLKIT_SECONDS = ("nvidia-ctk", "nvidia-container-cli"), 10.0
_VERSION = re.compile(r"\b\d{1,6}\.\d{1,6}\.\d{1,6}")
_TIME_ERROR = 5  # what adjtimex answers of a clock that is not right


class _Timex(ctypes.Structure):
    """The head of struct timex, and room for the rest. Source: adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_byte * 256),
    )  # fmt: skip


class Machine:
    """stores: what is in them -> where they are. keys: files, those that are there count."""

    def __init__(self, stores: Mapping[str, Path], keys: tuple[Path, ...]) -> None:
        self._stores, self._keys = stores, keys

    async def facts(self, engine_root: str = "") -> MachineFacts:
        """engine_root: the engine's folder, where this machine can see it."""
        stores = dict(self._stores) | ({"the engine": Path(engine_root)} if engine_root else {})
        return await asyncio.to_thread(self._facts, stores)

    def _facts(self, stores: Mapping[str, Path]) -> MachineFacts:
        return MachineFacts(
            clock=clock_facts(),
            stores=tuple(_spaces(stores)),
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            python=sys.version_info[:3],
            keys=tuple(_modes(self._keys)),
            gpu_toolkit=gpu_toolkit(),
        )


def clock_facts() -> ClockFacts | None:
    """As the kernel has it; where a service may not ask that, as the time daemon of systemd says. None where nobody
    tells."""
    if (asked := _of_kernel()) is not None:
        return asked
    return ClockFacts(synchronised=True) if _SYNCHRONISED.exists() else None


def _of_kernel() -> ClockFacts | None:
    """Changes nothing."""
    found = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(found))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    synchronised = state != _TIME_ERROR and not found.status & _STA_UNSYNC
    return ClockFacts(synchronised=synchronised, error_seconds=found.maxerror / 1_000_000)


def gpu_toolkit() -> str:
    """Its version; empty where there is none, or it doesn't tell."""
    for program in filter(None, map(shutil.which, _TOOLKIT_PROGRAMS)):
        try:
            told = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=_TOOLKIT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            continue
        if found := _VERSION.search(told.stdout):
            return found[0]
    return ""


def _spaces(stores: Mapping[str, Path]) -> Iterator[StoreFacts]:
    """Those that this user can see."""
    for name, path in stores.items():
        try:
            usage = shutil.disk_usage(path)
        except OSError:
            continue
        yield StoreFacts(name=name, path=str(path), free_bytes=usage.free, total_bytes=usage.total)


def _modes(keys: tuple[Path, ...]) -> Iterator[KeyFacts]:
    for path in keys:
        try:
            found = path.stat()
        except OSError:
            continue
        own = found.st_uid in (os.geteuid(), 0)
        yield KeyFacts(path=str(path), mode=stat.S_IMODE(found.st_mode), own=own)
