"""What a container uses, as the engine counts it. Source: Docker Engine API 1.41, "Get container stats"."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from dms.adapters.executors.calls import EngineCalls
from dms.application.ports.machine import Usage
from dms.errors import ExecutorUnavailable, NotFound

_MIB = 1024 * 1024
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Counted(Struct):
    """Bytes of files in memory that nothing has looked at lately."""

    inactive_file: _Count | None = None
    total_inactive_file: _Count | None = None


class _Memory(Struct):
    usage: _Count | None = None
    stats: _Counted | None = None


class _CpuUsage(Struct):
    total_usage: _Count = 0


class _Cpu(Struct):
    cpu_usage: _CpuUsage = msgspec.field(default_factory=_CpuUsage)


class _Stats(Struct):
    memory_stats: _Memory | None = None
    cpu_stats: _Cpu = msgspec.field(default_factory=_Cpu)


async def usage_of(calls: EngineCalls, container: str) -> Usage | None:
    """None of one that does not run. Raises ExecutorUnavailable."""
    try:
        stats = await calls.ask("stats", lambda api: api.stats(container, stream=False, one_shot=True))
    except NotFound:
        return None
    return usage_in(stats, time.monotonic())


def usage_in(stats: dict[str, Any], measured_at_seconds: float) -> Usage | None:
    """The engine has no figures of memory for one that has ended. Raises ExecutorUnavailable."""
    try:
        told = msgspec.convert(stats, _Stats)
    except msgspec.ValidationError as error:
        raise ExecutorUnavailable(f"Docker tells what a container uses in a way that can't be read: {error}") from error
    memory = told.memory_stats or _Memory()
    if memory.usage is None:
        return None
    counted = memory.stats or _Counted()
    # cgroup v1 has both, and only the total counts the groups below, as `usage` does; v2 has one, which counts them.
    files = counted.inactive_file if counted.total_inactive_file is None else counted.total_inactive_file
    seconds = told.cpu_stats.cpu_usage.total_usage / 1e9
    return Usage(seconds, max(0, memory.usage - (files or 0)) // _MIB, measured_at_seconds)
