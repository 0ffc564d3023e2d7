"""What is seen of a process job while it runs: what it uses, and its lines that have no end yet. Calls block."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from dms.application.ports.machine import Usage
from dms.domain.decoding import UNREADABLE


def usage_below(supervisor_pid: int) -> Usage | None:
    """Of all processes below the supervisor."""
    seconds, resident = 0.0, 0
    try:
        for process in psutil.Process(supervisor_pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                times = process.cpu_times()
                seconds += times.user + times.system + times.children_user + times.children_system
                resident += process.memory_info().rss
    except psutil.Error:
        return None
    return Usage(seconds, resident // 1024**2, time.monotonic())


def shown_in(path: Path) -> dict[str, str]:
    """Stream -> what is shown; nothing while there is no such file, or where it can't be read."""
    try:
        shown = msgspec.json.decode(path.read_bytes(), type=dict[Literal["stdout", "stderr"], str])
    except (OSError, *UNREADABLE):
        return {}
    return {str(stream): text for stream, text in shown.items()}
