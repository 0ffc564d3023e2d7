"""Whether a log can be relied on: what is known of its damage, and of writes that fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.recorder import is_passing
from dms.errors import LogUnavailable

log = logging.getLogger(__name__)

_WAY_OUT = (
    "What can be read is still served: save it (nunet events export -f FILE), stop the DMS, and put a backup of the "
    "data folder in the place of the damaged one. Without one, begin a new log: move events.db and views.db away"
)
_OF_AN_EXPORT = (
    "the event log was made from an export, which has no keys: the payments in it would not be known again. So nothing "
    "is recorded and no job is taken; what it holds is served. To go on with it, stop the DMS and put a backup of "
    "events.db in its place; else begin a new log: move events.db and views.db away"
)


class LogHealth:
    def __init__(self, files_fault: Callable[[], str]) -> None:
        """files_fault: what happened to the files in use; empty while all is well."""
        self._files_fault = files_fault
        self.damage = ""  # why nothing is recorded until a restart
        self._write_fault = ""  # why the newest write failed; the next may succeed
        self._on_trouble: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def trouble(self) -> str:
        return self.damage or self._write_fault

    def start(self) -> None:
        """Changes are told on the loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def on_trouble(self, react: Callable[[], None]) -> None:
        self._on_trouble.append(react)

    def refuse(self, damage: str) -> None:
        """Nothing more is recorded until a restart: what the log holds is not what was written. For any thread."""
        if not self.damage:
            found = self._files_fault() or damage.removesuffix(".")
            self.damage = f"the event log is damaged, nothing is recorded: {found}. {_WAY_OUT}"
            log.critical("%s", self.damage, extra={"action": "log_damaged"})
            self._tell()

    def refuse_copy(self) -> None:
        """As `refuse`, for one that is whole, and no log to go on with."""
        if not self.damage:
            self.damage = _OF_AN_EXPORT
            log.critical("%s", self.damage, extra={"action": "log_of_an_export"})
            self._tell()

    def look_at_files(self) -> None:
        """Notices when they were taken away."""
        if not self.damage and (fault := self._files_fault()):
            self.refuse(fault)

    def check(self) -> None:
        """Raises LogUnavailable once it is damaged."""
        self.look_at_files()
        if self.damage:
            raise LogUnavailable(self.damage)

    def write_failed(self, error: Exception) -> None:
        if self.damage:
            return
        first, self._write_fault = not self._write_fault, f"the event log can't be written ({error})"
        if first:
            log.error("%s", self._write_fault, extra={"action": "log_write_failed"})
            self._tell()

    def write_succeeded(self) -> None:
        if self._write_fault:
            self._write_fault = ""
            log.warning("the event log can be written again", extra={"action": "log_written_again"})
            self._tell()

    def unreadable(self, error: PersistenceError) -> LogUnavailable:
        """What an error of reading means for who asked."""
        self.look_at_files()
        if not is_passing(error):
            self.refuse(f"it can't be read ({error})")
        return LogUnavailable(self.damage or f"the event log can't be read just now ({error}); try again")

    def _tell(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            for react in self._on_trouble:
                loop.call_soon_threadsafe(react)
