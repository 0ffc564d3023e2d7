"""The event log on an SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dms.adapters.eventlog.durable_log import DurableEventLog, unix_us
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.tail import KEPT_EVENTS
from dms.application.loops import Loops


class SQLiteEventLog(DurableEventLog):
    recorder: SQLiteRecorder

    def __init__(
        self,
        database: Path,
        now: Callable[[], int] = unix_us,
        kept_events: int = KEPT_EVENTS,
        loops: Loops | None = None,
    ) -> None:
        """See DurableEventLog. Raises AlreadyRunning, LogCorrupt."""
        super().__init__(SQLiteRecorder(database), now, kept_events, loops)
