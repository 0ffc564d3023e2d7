"""Keeps the event log's database small: what is older than so many days goes to the archive, at the start and once a
day. Every command reads archived events as before; only cursors of streams behind them are told to go on further.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import ArchivedSegment, ArchiveStep, EventArchive
from dms.errors import DmsError, InvalidInput

log = logging.getLogger(__name__)

DAY_US = 86_400_000_000
INTERVAL_SECONDS = 86_400.0
RETRY_SECONDS = 3600.0
LEAST_EVENTS = 200  # for fewer the daily run makes no file
SEGMENTS_A_READ = 1000


class Retention:
    def __init__(
        self, archive: EventArchive, after_days: float, now: Callable[[], int], loops: Loops | None = None
    ) -> None:
        """after_days: 0 for never, unless it is asked for. now: Unix µs."""
        self._archive, self.after_days, self._now = archive, after_days, now
        self._loops = loops or Loops()
        self._running: Loop | None = None

    async def start(self) -> None:
        await self._look_for_files()
        if self.after_days:
            self._running = self._loops.start("retention", self._run)

    async def close(self) -> None:
        if self._running is not None:
            await self._running.close()

    async def archive(self, older_than_days: float | None, at_least: int = 1) -> ArchiveStep:
        """One step; None: as old as the setting says. Raises InvalidInput when that says never, LogUnavailable."""
        days = self.after_days if older_than_days is None else older_than_days
        if older_than_days is None and not days:
            raise InvalidInput(
                "eventlog.archive_after_days is 0, which means never; say how old: older_than_days"
                " (nunet archive run --older-than DAYS)",
                [("/older_than_days", "a number of days")],
            )
        return await self._archive.step(self._now() - int(days * DAY_US), at_least)

    async def segments(self, after: int, limit: int) -> Sequence[ArchivedSegment]:
        """See EventArchive.segments."""
        return await self._archive.segments(after, limit)

    async def _look_for_files(self) -> None:
        """One that is away is told at the start, not only once someone reads in it."""
        after = 0
        while page := await self._archive.segments(after, SEGMENTS_A_READ):
            for one in page:
                if one.state != "ok":
                    log.error(
                        "%s, which holds positions %d to %d, is %s; put it back from a copy",
                        one.file, one.first, one.last, one.state, extra={"action": "archive_incomplete"},
                    )  # fmt: skip
            after = page[-1].first

    async def _run(self) -> None:
        while True:
            pause = INTERVAL_SECONDS
            try:
                while (step := await self.archive(None, LEAST_EVENTS)).segment is not None:
                    log.info("positions up to %d are archived", step.segment.last, extra={"action": "archived"})
            except DmsError as error:
                log.warning("archiving waits: %s", error, extra={"action": "archive_waits"})
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)
