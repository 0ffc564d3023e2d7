"""One process owns a log at a time, by whatever name it opens it."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from dms.database import beside, make_private, real_path
from dms.disk import passes, private
from dms.errors import AlreadyRunning, ConfigError, LogUnavailable
from dms.locked_files import FileId, file_id

log = logging.getLogger(__name__)

_here: set[FileId] = set()  # owned in this process: a second handle, closed again, would drop SQLite's own locks
_guard = threading.Lock()


class OwnedFile:
    """A lock that one process holds on the log for as long as it lives; a crash frees it.

    Two are held: on the file `.lock` beside the file that SQLite opens, where links lead, as older versions do; and on
    that file itself, which may have more names than one (hard links)."""

    def __init__(self, database: Path) -> None:
        """Makes the file if there is none. Raises AlreadyRunning; LogUnavailable while it can't be written,
        ConfigError where it never can."""
        self._handles: list[int] = []
        self._database = database
        real = real_path(database)
        try:
            self._lock(beside(real, ".lock"), os.O_RDWR | os.O_CREAT)
            lock = self._handles[0]
            make_private(database)
            self.file = file_id(real.stat())
            with _guard:
                if self.file in _here:
                    raise self._owned_by(str(os.getpid()))
                self._lock(real, os.O_RDWR)
                _here.add(self.file)
        except OSError as error:
            self._close()
            text = f"{database} can't be opened to be written by uid {os.geteuid()}: {error.strerror}"
            raise LogUnavailable(text) if passes(error) else ConfigError(text) from error
        except AlreadyRunning:
            self._close()
            raise
        if real.stat().st_nlink > 1:
            log.warning(
                "%s has more names than one (hard links): SQLite keeps commits beside the name that it is opened by, "
                "so never open it by another; copy it instead", real, extra={"action": "log_has_two_names"},
            )  # fmt: skip
        with suppress(OSError):  # on a full disk others are told only that it is in use, not by whom
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        with _guard:
            _here.discard(self.file)
        self._close()

    def _lock(self, path: Path, flags: int) -> None:
        handle = private(path, flags)
        self._handles.append(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise self._owned_by(owner if owner.isdecimal() else "under another name") from error

    def _owned_by(self, owner: str) -> AlreadyRunning:
        owner = f"process {owner}" if owner.isdecimal() else owner or "unknown"
        return AlreadyRunning(
            f"{self._database} is in use by another DMS ({owner}); stop it, or start this one "
            "with another data folder (general.data_dir)"
        )

    def _close(self) -> None:
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()
