"""How long a paid job waits while this machine's disk takes nothing of what it is to begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from dms.disk import is_of_the_disk
from dms.errors import DiskTrouble, NoPlaceForInput

DISK_SECONDS = 600.0  # its price, and a place on this machine, wait with it


class DiskPatience:
    """By job. When its disk began to fail is no event: a restart gives it the patience anew."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}  # by the loop's clock

    @contextmanager
    def of(self, job_id: str) -> Iterator[None]:
        """Around what is stored for that job. What the disk says against it is passed on, so that it is tried again;
        once it has done so for too long, NoPlaceForInput is raised in its place."""
        try:
            yield
        except (DiskTrouble, OSError) as error:
            if not is_of_the_disk(error) or not self._is_over(job_id):
                raise
            self._since.pop(job_id, None)
            raise NoPlaceForInput(f"this provider can't store it: {error}") from error
        self._since.pop(job_id, None)

    def forget(self, job_id: str) -> None:
        """It is over."""
        self._since.pop(job_id, None)

    def _is_over(self, job_id: str) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._since.setdefault(job_id, now) >= DISK_SECONDS
