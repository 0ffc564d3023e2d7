"""Looks after a log in use: whether it verifies, whether its files are there, and whether it can be written again.

At the start the newest part is verified, behind where the last whole check ended; the rest in a thread, a little at a
time, from the first event on and then anew now and then. Where the last one ended is only a hint: it decides what is
looked at first, never what is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.audit import is_of_an_export
from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.eventlog.recorder import LogRecorder, is_passing
from dms.adapters.eventlog.verifier import Verifier
from dms.application.loops import Loop, Loops
from dms.errors import ArchiveUnreadable, LogCorrupt
from dms.long_work import long_work

log = logging.getLogger(__name__)

START_EVENTS = 50_000  # verified before the start goes on: half a second
ALWAYS_EVENTS = 2_000  # of them: also when they were verified before; the start reads many of these
LOOK_SECONDS = 1.0
BATCH = 500  # events: a few milliseconds, then as long for the loop
RETRY_SECONDS = 60.0
PROGRESS_SECONDS = 10.0
AGAIN_SECONDS = 6 * 3600.0
_VERIFIED = "verified"


class LogWatch:
    def __init__(
        self, event_log: DurableEventLog, loops: Loops | None = None, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        self._log, self._loops, self._again = event_log, loops or Loops(), again_seconds
        self._recorder = event_log.recorder
        self._running: list[Loop] = []
        self._stopped = threading.Event()
        self._reading: LogRecorder | None = None
        self.verified = asyncio.Event()  # the first whole check has ended

    def check_newest(self) -> None:
        """Blocking, but bounded. What does not fit is told by the log's `trouble`."""
        try:
            self._check_newest()
            if is_of_an_export(self._recorder):
                self._log.health.refuse_copy()
        except (LogCorrupt, PersistenceError) as error:
            self._log.health.refuse(str(error))

    async def start(self) -> None:
        self._running = [
            self._loops.every(LOOK_SECONDS, "event log watch", self._look_at_files),
            self._loops.start("event log check", self._verify_now_and_then),
        ]

    async def close(self) -> None:
        self._stopped.set()
        if self._reading is not None:
            self._reading.interrupt()
        for loop in self._running:
            await loop.close()

    def _check_newest(self) -> None:
        head = self._recorder.head
        first = max(self._recorder.first - 1, head - START_EVENTS)  # what is archived is looked at in the background
        position, link = self._hint()
        if position > head:
            raise LogCorrupt(
                f"the log ends at position {head}, but was verified up to {position}: {position - head} events at its "
                "end are missing"
            )
        if position > first and link == self._recorder.previous_hash(position + 1):
            first = max(first, min(position, head - ALWAYS_EVENTS))
        for _ in _rows_behind(self._recorder, first, head):
            pass

    def _hint(self) -> tuple[int, bytes]:
        position, _, link = (self._recorder.note(_VERIFIED) or b"").partition(b" ")
        return (int(position), link) if position.isdigit() else (0, b"")

    # --- its files ---------------------------------------------------------------------------------
    async def _look_at_files(self) -> None:
        self._log.health.look_at_files()
        if self._log.trouble and not self._log.health.damage:
            await self._log.try_to_write()

    # --- its content -------------------------------------------------------------------------------
    async def _verify_now_and_then(self) -> None:
        while not self._log.health.damage:
            pause = self._again
            try:
                await long_work(self._verify)
            except (LogCorrupt, ArchiveUnreadable, PersistenceError) as error:
                if self._stopped.is_set():
                    break
                if isinstance(error, ArchiveUnreadable) or is_passing(error):
                    log.warning("the log can't be checked just now: %s", error, extra={"action": "log_check_waits"})
                    pause = RETRY_SECONDS
                else:
                    self._log.health.refuse(str(error))
            self.verified.set()
            await asyncio.sleep(pause)
        await asyncio.Event().wait()  # what is damaged stays so until a restart

    def _verify(self) -> None:
        """All of it. Raises LogCorrupt, PersistenceError; ArchiveUnreadable where that passes by itself."""
        recorder = self._reading = self._recorder.reopened()
        try:
            verifier = Verifier(recorder)
            verifier.keys()
            try:
                reached = self._walk(verifier.chain(BATCH))
            except ArchiveUnreadable as error:
                if is_passing(error):
                    raise
                # Files of the archive may lie elsewhere for a while, and what is written now does not need them.
                log.error("the archived part of the log can't be checked: %s", error, extra={"action": "log_check"})
                reached = self._walk(_rows_behind(recorder, recorder.first - 1, self._recorder.head))
            if self._stopped.is_set():
                return
            verifier.structure()
            link = recorder.previous_hash(reached + 1)
        finally:
            self._reading = None
            recorder.close()
        if not self._stopped.is_set():
            with contextlib.suppress(PersistenceError):  # a hint: the next start then verifies more of it
                self._recorder.set_note(_VERIFIED, b"%d %s" % (reached, link))
            log.info("all %d events of the log verify", reached, extra={"action": "log_verified"})

    def _walk(self, chain: Iterator[int]) -> int:
        """Leaves the processor to the others half of the time."""
        reached, told = 0, time.monotonic()
        started = told
        for reached in chain:
            now = time.monotonic()
            if self._stopped.wait(now - started):
                return reached
            if now - told > PROGRESS_SECONDS:
                log.info("%d of %d events verified", reached, self._recorder.head, extra={"action": "log_check"})
                told = now
            started = time.monotonic()
        return reached


def _rows_behind(recorder: LogRecorder, position: int, until: int) -> Iterator[int]:
    """Recomputes their chain; yields the position reached. Raises LogCorrupt."""
    verifier = Verifier(recorder)
    while position < until:
        count = min(BATCH, until - position)
        verifier.rows(position, recorder.previous_hash(position + 1), count)
        position += count
        yield position
