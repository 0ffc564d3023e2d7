"""One process owns a log at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dms.errors import AlreadyRunning


class OwnedFile:
    """A lock that one process holds on the log for as long as it lives; a crash frees it."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise AlreadyRunning(
                f"{database} is in use by another DMS (process {owner}); stop it, or start this one "
                "with another data folder (general.data_dir)"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
