"""How long a paid job waits while this machine can store nothing of what it is to begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dms.application.lasting import Lasting
from dms.disk import is_of_the_machine
from dms.errors import DiskTrouble, NoPlaceForInput

DISK_SECONDS = 600.0  # its price, and a place on this machine, wait with it


class DiskPatience:
    """By job."""

    def __init__(self) -> None:
        self._trouble = Lasting()

    @contextmanager
    def of(self, job_id: str) -> Iterator[None]:
        """Around what is stored for that job. What the machine lacks for it is passed on, so that it is tried again;
        once it has done so for too long, NoPlaceForInput is raised in its place."""
        try:
            yield
        except (DiskTrouble, OSError) as error:
            if not is_of_the_machine(error) or not self._trouble.has_lasted(job_id, DISK_SECONDS):
                raise
            self._trouble.forget(job_id)
            raise NoPlaceForInput(f"this provider can't store it: {error}") from error
        self._trouble.forget(job_id)

    def forget(self, job_id: str) -> None:
        """It is over."""
        self._trouble.forget(job_id)
