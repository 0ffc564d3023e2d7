"""All processes of a job, whatever sessions they have made for themselves. Whoever loses its parent becomes a child of
the supervisor, so each of them ends as one: its number can't be another's before it was waited for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_MOST_SECONDS = 5.0  # for those that can't be ended just now, as one that waits for a disk
_PAUSE_SECONDS = 0.002


def adopt_orphans() -> None:
    """From now on, for the whole process."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)


def bury_orphans(job: int) -> None:
    """Those that have ended; the job itself is waited for by who started it."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid != job:
            os.waitpid(found.si_pid, 0)


def end_orphans(job: int) -> None:
    """All but the job itself, which has ended: their own children are next, until there are none."""
    give_up_at = time.monotonic() + _MOST_SECONDS
    while (left := [child for child in _children() if child != job]) and time.monotonic() < give_up_at:
        for child in left:
            with contextlib.suppress(PermissionError):  # it has become another user's
                os.kill(child, signal.SIGKILL)
        for child in left:
            os.waitpid(child, os.WNOHANG)
        time.sleep(_PAUSE_SECONDS)


def _children() -> Iterator[int]:
    """Of this process."""
    own = os.getpid()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended
                status = (folder / "stat").read_bytes()
                if int(status[status.rindex(b")") + 2 :].split()[1]) == own:
                    yield int(folder.name)
