"""What a container uses, as the engine counts it. Source: Docker Engine API 1.41, "Get container stats"."""

from __future__ import annotations

import time
from typing import Any

from dms.adapters.executors.calls import EngineCalls
from dms.application.ports import Usage
from dms.errors import NotFound

_MIB = 1024 * 1024


async def usage_of(calls: EngineCalls, container: str) -> Usage | None:
    """None of one that does not run. Raises ExecutorUnavailable."""
    try:
        stats = await calls.ask("stats", lambda api: api.stats(container, stream=False, one_shot=True))
    except NotFound:
        return None
    return usage_in(stats, time.monotonic())


def usage_in(stats: dict[str, Any], measured_at_seconds: float) -> Usage | None:
    """The engine has no figures of memory for one that has ended."""
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    counted = memory.get("stats") or {}
    # cgroup v1 has both, and only the total counts the groups below, as `usage` does; v2 has one, which counts them.
    files = counted.get("total_inactive_file", counted.get("inactive_file", 0))
    seconds = int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
    return Usage(seconds, max(0, int(memory["usage"]) - int(files)) // _MIB, measured_at_seconds)
