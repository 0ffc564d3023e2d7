"""The log's one writer: what commands decided while the last fsync ran is committed as one transaction (no timer).

A commit is made on the loop while the disk is quick, and in a thread when it is not: handing a quick one to a thread
costs more than the commit, and a slow one must not hold up the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eventsourcing.persistence import IntegrityError

from dms.adapters.eventlog.aggregates import Aggregates
from dms.adapters.eventlog.envelope import Draft, Place
from dms.adapters.eventlog.health import LogHealth
from dms.adapters.eventlog.live import LiveEvents
from dms.adapters.eventlog.mapper import recorded
from dms.adapters.eventlog.recorder import LogBusy, LogRecorder
from dms.application.loops import Loop, Loops, Patience, said
from dms.backoff import Backoff
from dms.domain.aggregate import Aggregate
from dms.domain.event import Event
from dms.errors import Conflict, LogUnavailable

log = logging.getLogger(__name__)

EVENTS_A_COMMIT = 2048
QUEUED_EVENTS = 65_536  # beyond it a command is told to try again later
QUICK_COMMIT_SECONDS = 0.001
BUSY_SECONDS = 5.0  # how long another program that holds the database is waited for
BUSY_PAUSES_SECONDS = (0.01, 0.1)  # first and longest, between the tries meanwhile
WRITER_PATIENCE = Patience(longest=5.0)  # commands are refused meanwhile
T = TypeVar("T")


class Save:
    """Events of one command on their way to the disk, and who waits for them."""

    __slots__ = ("aggregates", "at", "done", "drafts", "events")

    def __init__(self, drafts: list[Draft], events: list[Event], aggregates: Sequence[Aggregate]) -> None:
        """events: of the drafts, in their order."""
        self.drafts, self.events, self.aggregates = drafts, events, aggregates
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.at = time.perf_counter()


class GroupCommit:
    """All but `between_commits`' work runs on one loop."""

    def __init__(
        self, recorder: LogRecorder, live: LiveEvents, aggregates: Aggregates, health: LogHealth, loops: Loops
    ) -> None:
        self._recorder, self._live, self._aggregates, self._health = recorder, live, aggregates, health
        self._loops = loops
        self._queue: list[Save] = []
        self._queued_events = 0
        self._writing: list[Save] = []  # in the transaction that is open now
        self._singly = 0  # so many saves are each committed alone, after one of them spoilt a common commit
        self._work = asyncio.Event()
        # Its own, so that a commit waits for nothing that others do in threads.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="event log writer")
        self._turn = asyncio.Lock()  # who may write: a commit, or a step of the archive
        self._commit_seconds = QUICK_COMMIT_SECONDS  # moving average; starts undecided
        self._last_commit_seconds = 0.0
        self._loop: Loop | None = None
        self._closed = False
        self._on_commit: list[Callable[[int, float, float], None]] = []

    def start(self) -> None:
        self._loop = self._loops.start(
            "event log writer", self._write_loop, needed=True, on_death=self._writer_died, patience=WRITER_PATIENCE
        )

    async def close(self) -> None:
        """Writes what is queued."""
        self._closed = True
        if self._loop is not None:
            while waiting := self.waiting():
                await asyncio.wait(waiting)
            await self._loop.close()
        self._thread.shutdown(wait=False)

    def on_commit(self, tell: Callable[[int, float, float], None]) -> None:
        """Calls tell(events, seconds of the commit, seconds that its oldest command waited); must not raise."""
        self._on_commit.append(tell)

    # --- from commands -------------------------------------------------------------------------------
    def check_taking(self) -> None:
        """Raises LogUnavailable while it takes nothing."""
        if self._closed:
            raise LogUnavailable("the event log is closed: this DMS is stopping")
        if self._health.damage:
            raise LogUnavailable(self._health.damage)
        if self._loop is not None and self._loop.resting:
            raise LogUnavailable(f"nothing can be written just now ({self._loop.trouble}); try again in a moment")

    def has_room(self, events: int) -> bool:
        return self._queued_events + events <= QUEUED_EVENTS

    def put(self, save: Save) -> None:
        """Its future is done once it is durable, with the head then, or with why nothing of it was written."""
        self._queue.append(save)
        self._queued_events += len(save.drafts)
        self._work.set()

    def saves_of(self, aggregates: Sequence[Aggregate]) -> list[asyncio.Future[int]]:
        """That are on their way."""
        names = {aggregate.id for aggregate in aggregates}
        return [save.done for save in self._writing + self._queue if any(a.id in names for a in save.aggregates)]

    def waiting(self) -> list[asyncio.Future[int]]:
        """All that are on their way."""
        return [save.done for save in self._writing + self._queue]

    async def between_commits(self, work: Callable[[], None]) -> None:
        """Runs a short piece of work that writes, in a thread; commands wait for it, the loop does not."""
        async with self._turn:
            self._health.check()
            await self._in_thread(work)

    def _in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- the writer ----------------------------------------------------------------------------------
    async def _write_loop(self) -> None:
        self._live.catch_up()
        while True:
            await self._work.wait()
            self._work.clear()
            while self._queue:
                batch = self._writing = self._take_batch()
                try:
                    places = await self._commit([draft for save in batch for draft in save.drafts])
                except IntegrityError as error:
                    self._look_for_culprit(batch, error)
                except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
                    self._fail(batch, error)
                else:
                    self._publish(batch, places)
                await asyncio.sleep(0)  # those who were answered queue their next commands

    def _take_batch(self) -> list[Save]:
        count = taken = 0
        for save in self._queue:
            if taken and (self._singly or count + len(save.drafts) > EVENTS_A_COMMIT):
                break
            count += len(save.drafts)
            taken += 1
        self._singly = max(0, self._singly - taken)
        batch, self._queue[:taken] = self._queue[:taken], []
        self._queued_events -= count
        return batch

    async def _commit(self, drafts: list[Draft]) -> list[Place]:
        async with self._turn:
            self._health.check()
            places = await self._insert(drafts)
            if self._commit_seconds < QUICK_COMMIT_SECONDS:
                seconds = self._recorder.commit()
            else:
                # Begun once it is inserted, whatever becomes of us: the recorder is locked until it is done.
                committing = self._in_thread(self._recorder.commit)
                try:
                    seconds = await asyncio.shield(committing)
                except asyncio.CancelledError:
                    committing.add_done_callback(self._committed_alone)
                    raise
            self._health.check()  # else it may have gone to a file that has no name any more
        self._health.write_succeeded()
        self._commit_seconds += 0.1 * (seconds - self._commit_seconds)
        self._last_commit_seconds = seconds
        return places

    async def _insert(self, drafts: list[Draft]) -> list[Place]:
        """Another program that holds the database for a moment is waited for; the loop goes on meanwhile."""
        clock, backoff = asyncio.get_running_loop().time, Backoff(*BUSY_PAUSES_SECONDS)
        give_up_at = clock() + BUSY_SECONDS
        while True:
            try:
                return self._recorder.insert(drafts)
            except LogBusy:
                if clock() >= give_up_at:
                    raise
            await asyncio.sleep(backoff.next())
            self._health.check()

    def _committed_alone(self, committing: asyncio.Future[float]) -> None:
        """The writer died meanwhile: nobody else takes what came of it."""
        if not committing.cancelled() and committing.exception() is None:
            self._live.catch_up()

    def _publish(self, batch: list[Save], places: list[Place]) -> None:
        drafts = [draft for save in batch for draft in save.drafts]
        events = [event for save in batch for event in save.events]
        placed = zip(drafts, places, events, strict=True)
        self._live.publish([recorded(draft, place, event) for draft, place, event in placed])
        for save in batch:
            self._aggregates.let_go(save.aggregates)
            if not save.done.done():
                save.done.set_result(self._live.head)
        self._writing = []  # not before all are told: should we die on the way, the rest still is (see _writer_died)
        oldest = time.perf_counter() - batch[0].at
        for tell in self._on_commit:
            try:
                tell(len(places), self._last_commit_seconds, oldest)
            except Exception:  # a listener's fault must not hold up the commands behind
                log.exception("after a commit", extra={"action": "commit_told_failed"})

    def _look_for_culprit(self, batch: list[Save], error: IntegrityError) -> None:
        """Events of a version that is there already: whose they are is found by committing each save alone."""
        if len(batch) == 1:
            self._refuse_culprit(batch[0], error)
            return
        self._queue[:0], self._singly = batch, len(batch)
        self._queued_events += sum(len(save.drafts) for save in batch)
        self._writing = []

    def _refuse_culprit(self, culprit: Save, error: IntegrityError) -> None:
        log.error("events were refused: %s", error, extra={"action": "log_conflict"})
        behind = self._all_that_waits([culprit])
        self._refuse(behind[:1], lambda: Conflict("another writer changed the same aggregate; read again, then retry"))
        text = "a command before this one was refused; nothing of this one was recorded, try again"
        self._refuse(behind[1:], lambda: LogUnavailable(text))
        self._writing = []

    def _fail(self, batch: list[Save], error: Exception) -> None:
        """Nothing of the batch was written."""
        self._health.write_failed(error)
        text = self._health.damage or f"the event log can't be written ({error}); nothing was recorded, try again"
        self._refuse(self._all_that_waits(batch), lambda: LogUnavailable(text))
        self._writing = []

    def _all_that_waits(self, batch: list[Save]) -> list[Save]:
        """What queued behind a batch that was not written was decided on its events, so it fails too, and every object
        involved is read anew."""
        self._writing, self._queue = batch + self._queue, []
        self._queued_events = self._singly = 0
        return self._writing

    def _writer_died(self, error: Exception) -> None:
        """No command waits for what no longer works. What was committed at the last moment is found by reading on."""
        failed, self._writing = self._all_that_waits(self._writing), []
        text = f"the event log's writer failed ({said(error)}); read again, then retry"
        self._refuse(failed, lambda: LogUnavailable(text))
        self._live.catch_up()

    def _refuse(self, failed: Sequence[Save], error: Callable[[], Exception]) -> None:
        self._aggregates.roll_back([aggregate for save in failed for aggregate in save.aggregates])
        for save in failed:
            if not save.done.done():
                save.done.set_exception(error())
                save.done.exception()  # seen: a caller that went away is not an error of its own
