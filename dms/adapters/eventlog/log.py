"""The event log as the application uses it: aggregates in memory, group commit, subscriptions.

All of it belongs to one asyncio loop. Commands queue their events; the writer task takes what has
queued while the last fsync ran and commits it as one transaction (no timer). A commit is made on
the loop while the disk is quick, and in a thread when it is not: handing a quick one to a thread
costs more than the commit, and a slow one must not hold up the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from eventsourcing.application import AggregateNotFoundError, Repository

from dms.adapters.eventlog.mapper import RecordedEventStore
from dms.adapters.eventlog.sqlite import Draft, SQLiteRecorder
from dms.adapters.eventlog.tail import KEPT_EVENTS, Tail
from dms.application.cause import current_cause
from dms.application.loops import Loop, Loops, Patience, said
from dms.application.wakeup import Wakeup
from dms.database import is_passing
from dms.domain.aggregate import Aggregate
from dms.domain.chain import SignedRecord, id_bytes
from dms.domain.event import Event, Recorded, decode, encode, misplaced, new_id_bytes
from dms.domain.sealing import scope_of, streams_of
from dms.errors import Conflict, InvalidInput, LogCorrupt, LogUnavailable, PeerMisbehaved

A = TypeVar("A", bound=Aggregate)
log = logging.getLogger(__name__)

CACHED_AGGREGATES = 1024  # some 9 kB each; others are read again
EVENTS_A_COMMIT = 2048
QUEUED_EVENTS = 65_536  # beyond it a command is told to try again later
QUICK_COMMIT_SECONDS = 0.001
WRITER_PATIENCE = Patience(longest=5.0)  # commands are refused meanwhile
READ_BATCH = 1000
_WAY_OUT = (
    "What can be read is still served: save it (nunet events export -f FILE), stop the DMS, and put a backup of the "
    "data folder in the place of the damaged one, or make a log of the export (nunet events import)"
)


def _now() -> int:
    return time.time_ns() // 1000


class Save:
    """Events of one command on their way to the disk, and who waits for them."""

    __slots__ = ("aggregates", "at", "done", "drafts")

    def __init__(self, drafts: list[Draft], aggregates: Sequence[Aggregate], done: asyncio.Future[int]) -> None:
        self.drafts, self.aggregates, self.done = drafts, aggregates, done
        self.at = time.perf_counter()


class SQLiteEventLog:
    """Implements application.ports.EventLog. Build it, then `start()` on the loop that uses it."""

    def __init__(
        self,
        database: Path,
        now: Callable[[], int] = _now,
        kept_events: int = KEPT_EVENTS,
        loops: Loops | None = None,
    ) -> None:
        """now: Unix time in microseconds. kept_events: how many of the newest are held in memory at
        least. Raises AlreadyRunning, LogCorrupt."""
        self.recorder = SQLiteRecorder(database)
        self._now = now
        self._repository: Repository[str] = Repository(
            RecordedEventStore(self.recorder),
            cache_maxsize=CACHED_AGGREGATES,
            fastforward=False,
            deepcopy_from_cache=False,
        )
        self._uncommitted: dict[str, tuple[Aggregate, int]] = {}  # never evicted while a save of it waits
        self._tail = Tail(self.recorder.head, kept_events)
        self._queue: list[Save] = []
        self._queued_events = 0
        self._writing: list[Save] = []  # in the transaction that is open now
        self._work = asyncio.Event()
        self._turn = asyncio.Lock()  # who may write: a commit, or a step of the archive
        self._changed = Wakeup()
        self._commit_seconds = QUICK_COMMIT_SECONDS  # moving average; starts undecided
        self._loops = loops or Loops()
        self._writer: Loop | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._indexes: dict[type[Aggregate], list[Callable[[str, Any], None]]] = {}
        self._on_commit: list[Callable[[int, float, float], None]] = []
        self._last_commit_seconds = 0.0
        self.damage = ""  # why nothing is recorded until a restart
        self._write_fault = ""  # why the newest write failed; the next may succeed
        self._on_trouble: list[Callable[[], None]] = []

    @property
    def head(self) -> int:
        """As published: a thread may have committed further, which the loop does not know yet."""
        return self._tail.head

    @property
    def first(self) -> int:
        return self.recorder.first

    # --- whether it can be relied on -----------------------------------------------------------------
    @property
    def trouble(self) -> str:
        return self.damage or self._write_fault

    def on_trouble(self, react: Callable[[], None]) -> None:
        self._on_trouble.append(react)

    def refuse(self, damage: str) -> None:
        """Nothing more is recorded until a restart: what the log holds is not what was written. For any thread."""
        if not self.damage:
            found = (self.recorder.files and self.recorder.files.fault()) or damage.removesuffix(".")
            self.damage = f"the event log is damaged, nothing is recorded: {found}. {_WAY_OUT}"
            log.critical("%s", self.damage, extra={"action": "log_damaged"})
            self._tell_trouble()

    def look_at_files(self) -> None:
        """Notices when they were taken away."""
        if not self.damage and self.recorder.files is not None and (fault := self.recorder.files.fault()):
            self.refuse(fault)

    async def try_to_write(self) -> None:
        """After a failed write: whether one succeeds again, when no command comes that would tell."""
        try:
            await self.between_commits(self.recorder.probe)
        except (sqlite3.Error, LogUnavailable) as error:
            log.debug("the event log still can't be written: %s", error)
        else:
            self._write_succeeded()

    def _write_failed(self, error: Exception) -> None:
        first, self._write_fault = not self._write_fault, f"the event log can't be written ({error})"
        if first:
            log.error("%s", self._write_fault, extra={"action": "log_write_failed"})
            self._tell_trouble()

    def _write_succeeded(self) -> None:
        if self._write_fault:
            self._write_fault = ""
            log.warning("the event log can be written again", extra={"action": "log_written_again"})
            self._tell_trouble()

    def _tell_trouble(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            for react in self._on_trouble:
                loop.call_soon_threadsafe(react)

    def _unreadable(self, error: sqlite3.Error) -> LogUnavailable:
        self.look_at_files()
        if not is_passing(error):
            self.refuse(f"it can't be read ({error})")
        return LogUnavailable(self.damage or f"the event log can't be read just now ({error}); try again")

    def _check_usable(self) -> None:
        """Raises LogUnavailable."""
        self.look_at_files()
        if self.damage:
            raise LogUnavailable(self.damage)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = self._loops.start(
            "event log writer", self._write_loop, needed=True, on_death=self._writer_died, patience=WRITER_PATIENCE
        )

    async def close(self) -> None:
        """Writes what is queued, then lets go of the file."""
        self._closed = True
        if self._writer is not None:
            while waiting := [save.done for save in self._writing + self._queue]:
                await asyncio.wait(waiting)
            await self._writer.close()
        self.recorder.close()

    # --- aggregates ------------------------------------------------------------------------------
    def load(self, aggregate_type: type[A], key: str) -> A | None:
        name = f"{aggregate_type.KIND}-{key}"
        busy = self._uncommitted.get(name)
        if busy is not None:
            return cast("A", busy[0])
        projector = cast("Callable[[A | None, Any], A | None]", aggregate_type.project)
        try:
            return self._repository.get(name, projector_func=projector)
        except AggregateNotFoundError:
            return None
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    async def save(self, *aggregates: Aggregate) -> int:
        if self._closed and any(aggregate.pending for aggregate in aggregates):
            self._roll_back(aggregates)
            raise LogUnavailable("the event log is closed: this DMS is stopping")
        if self.damage and any(aggregate.pending for aggregate in aggregates):
            self._roll_back(aggregates)
            raise LogUnavailable(self.damage)
        if self._writer is not None and self._writer.resting and any(aggregate.pending for aggregate in aggregates):
            self._roll_back(aggregates)
            raise LogUnavailable(f"nothing can be written just now ({self._writer.trouble}); try again in a moment")
        try:
            drafts = self._drafts(aggregates)
        except sqlite3.Error as error:  # the keys of personal data are read
            self._roll_back(aggregates)
            raise self._unreadable(error) from error
        except BaseException:
            self._roll_back(aggregates)
            raise
        if not drafts:
            return await self._settled(aggregates)
        if self._queued_events + len(drafts) > QUEUED_EVENTS and not self._any_uncommitted(aggregates):
            self._roll_back(aggregates)
            raise LogUnavailable("the event log is overloaded; try again in a moment")
        save = Save(drafts, aggregates, asyncio.get_running_loop().create_future())
        self._hold(aggregates)
        self._restate(aggregates)
        self._queue.append(save)
        self._queued_events += len(drafts)
        self._work.set()
        return await asyncio.shield(save.done)  # who is cancelled only stops waiting: what was decided is written

    def _drafts(self, aggregates: Sequence[Aggregate]) -> list[Draft]:
        cause = current_cause()
        now = self._now()
        correlation, causation = id_bytes(aggregates[0].correlation_id), id_bytes(cause.causation_id)
        drafts: list[Draft] = []
        for aggregate in aggregates:
            pending = aggregate.collect_pending()
            seal = partial(self.recorder.keys.seal, scope_of(aggregate.id))
            if pending and pending[0][0] == 1 and self._repository.cache is not None:
                self._repository.cache.put(aggregate.id, aggregate)  # a new one: nobody has loaded it yet
            drafts += [
                Draft(
                    aggregate.id, version, event.TOPIC, event.VERSION, now, new_id_bytes(), correlation,
                    causation, cause.traceparent, event, encode(event, seal),
                )
                for version, event in pending
            ]  # fmt: skip
        return drafts

    def _any_uncommitted(self, aggregates: Sequence[Aggregate]) -> bool:
        """Such a one can't be forgotten: what the disk has of it is not yet what was decided."""
        return any(aggregate.id in self._uncommitted for aggregate in aggregates)

    async def _settled(self, aggregates: Sequence[Aggregate]) -> int:
        """An answer that repeats an earlier one waits until that one is durable."""
        if not self._any_uncommitted(aggregates):
            return self.head
        names = {aggregate.id for aggregate in aggregates}
        saves = self._writing + self._queue
        waiting = [save.done for save in saves if any(a.id in names for a in save.aggregates)]
        for done in waiting:
            await asyncio.shield(done)
        return self.head

    def _hold(self, aggregates: Sequence[Aggregate]) -> None:
        for aggregate in aggregates:
            held = self._uncommitted.get(aggregate.id)
            self._uncommitted[aggregate.id] = (aggregate, 1 if held is None else held[1] + 1)

    def _let_go(self, aggregates: Sequence[Aggregate]) -> None:
        for aggregate in aggregates:
            held = self._uncommitted.get(aggregate.id)
            if held is not None and held[1] > 1:
                self._uncommitted[aggregate.id] = (held[0], held[1] - 1)
            else:
                self._uncommitted.pop(aggregate.id, None)

    def _forget(self, aggregates: Sequence[Aggregate]) -> None:
        """Their objects are ahead of the log: the next load reads them anew."""
        for aggregate in aggregates:
            self._uncommitted.pop(aggregate.id, None)
        self._evict([aggregate.id for aggregate in aggregates])

    def _evict(self, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(KeyError):
                if self._repository.cache is not None:
                    self._repository.cache.get(name, evict=True)

    def _restate(self, aggregates: Sequence[Aggregate]) -> None:
        for aggregate in aggregates:
            for restate in self._indexes.get(type(aggregate), ()):
                try:
                    restate(aggregate.key, aggregate)
                except Exception:  # an index's fault must not leave a command without its answer
                    log.exception("an index of %s", aggregate.id, extra={"action": "index_failed"})

    def _restate_as_stored(self, aggregates: Sequence[Aggregate]) -> None:
        for kind, key in {(type(aggregate), aggregate.key): None for aggregate in aggregates}:
            for restate in self._indexes.get(kind, ()):
                try:
                    restate(key, self.load(kind, key))
                except Exception:
                    log.exception("an index of %s-%s", kind.KIND, key, extra={"action": "index_failed"})

    def _roll_back(self, aggregates: Sequence[Aggregate]) -> None:
        self._forget(aggregates)
        self._restate_as_stored(aggregates)

    # --- writing -----------------------------------------------------------------------------------
    async def _write_loop(self) -> None:
        self._catch_up()
        while True:
            await self._work.wait()
            self._work.clear()
            while self._queue:
                batch = self._writing = self._take_batch()
                try:
                    recorded = await self._commit([draft for save in batch for draft in save.drafts])
                except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
                    self._fail(batch, error)
                else:
                    self._publish(batch, recorded)
                await asyncio.sleep(0)  # those who were answered queue their next commands

    def _take_batch(self) -> list[Save]:
        count = taken = 0
        for save in self._queue:
            if taken and count + len(save.drafts) > EVENTS_A_COMMIT:
                break
            count += len(save.drafts)
            taken += 1
        batch, self._queue[:taken] = self._queue[:taken], []
        self._queued_events -= count
        return batch

    async def _commit(self, drafts: list[Draft]) -> list[Recorded]:
        async with self._turn:
            self._check_usable()
            recorded = self.recorder.insert(drafts)
            if self._commit_seconds < QUICK_COMMIT_SECONDS:
                seconds = self.recorder.commit()
            else:
                # Begun once it is inserted, whatever becomes of us: the recorder is locked until it is done.
                committing = asyncio.ensure_future(asyncio.to_thread(self.recorder.commit))
                try:
                    seconds = await asyncio.shield(committing)
                except asyncio.CancelledError:
                    committing.add_done_callback(self._committed_alone)
                    raise
            self._check_usable()  # else it may have gone to a file that has no name any more
        self._write_succeeded()
        self._commit_seconds += 0.1 * (seconds - self._commit_seconds)
        self._last_commit_seconds = seconds
        return recorded

    def _committed_alone(self, committing: asyncio.Future[float]) -> None:
        """The writer died meanwhile: nobody else takes what came of it."""
        if not committing.cancelled() and committing.exception() is None:
            self._catch_up()

    def _publish(self, batch: list[Save], recorded: list[Recorded]) -> None:
        if recorded[0].position != self._tail.head + 1:  # the writer died between a commit and its telling
            self._tail = Tail(recorded[0].position - 1, self._tail.kept)
        self._tail.extend(recorded)
        self._wake_readers()
        for save in batch:
            self._let_go(save.aggregates)
            if not save.done.done():
                save.done.set_result(self.head)
        self._writing = []  # not before all are told: should we die on the way, the rest still is (see _writer_died)
        oldest = time.perf_counter() - batch[0].at
        for tell in self._on_commit:
            try:
                tell(len(recorded), self._last_commit_seconds, oldest)
            except Exception:  # a listener's fault must not hold up the commands behind
                log.exception("after a commit", extra={"action": "commit_told_failed"})

    def _fail(self, batch: list[Save], error: Exception) -> None:
        """Nothing of the batch was written. What queued behind it was decided on its events, so it
        fails too, and every object involved is read anew."""
        failed, self._queue, self._queued_events = batch + self._queue, [], 0
        self._writing = failed
        conflict = isinstance(error, sqlite3.IntegrityError)
        if conflict:
            log.error("events were refused: %s", error, extra={"action": "log_conflict"})
        elif not self.damage:
            self._write_failed(error)
        self._roll_back([aggregate for save in failed for aggregate in save.aggregates])
        for save in failed:
            if save.done.done():
                continue
            save.done.set_exception(
                Conflict("another writer changed the same aggregate; read again, then retry")
                if conflict
                else LogUnavailable(
                    self.damage or f"the event log can't be written ({error}); nothing was recorded, try again"
                )
            )
            save.done.exception()  # seen: a caller that went away is no error of its own
        self._writing = []

    def _writer_died(self, error: Exception) -> None:
        """No command waits for what no longer works. What was committed at the last moment is found by reading on."""
        failed, self._queue, self._queued_events, self._writing = self._writing + self._queue, [], 0, []
        self._roll_back([aggregate for save in failed for aggregate in save.aggregates])
        for save in failed:
            if not save.done.done():
                save.done.set_exception(
                    LogUnavailable(f"the event log's writer failed ({said(error)}); read again, then retry")
                )
                save.done.exception()  # seen: a caller that went away is no error of its own
        self._catch_up()

    def _catch_up(self) -> None:
        """With commits that were not told."""
        if self.recorder.head != self._tail.head:
            self._tail = Tail(self.recorder.head, self._tail.kept)
            self._wake_readers()

    def _wake_readers(self) -> None:
        self._changed.wake()

    async def between_commits(self, work: Callable[[], None]) -> None:
        """Runs a short piece of work that writes, in a thread; commands wait for it, the loop does not."""
        async with self._turn:
            self._check_usable()
            await asyncio.to_thread(work)

    # --- reading -----------------------------------------------------------------------------------
    async def read(self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "") -> Sequence[Recorded]:
        if not stream:
            recent = self._tail.after(after, 2 * self._tail.kept if topics else limit)
            if recent is not None:
                return _matching(recent, topics, "")[:limit]
        return await self._read(after, limit, topics, stream, self.head)

    async def _read(self, after: int, limit: int, topics: Sequence[str], stream: str, until: int) -> Sequence[Recorded]:
        try:
            return await asyncio.to_thread(self.recorder.read, after, limit, topics=topics, stream=stream, until=until)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    async def subscribe(
        self, after: int, *, topics: Sequence[str] = (), stream: str = ""
    ) -> AsyncGenerator[Sequence[Recorded], None]:
        """Raises InvalidInput for a position the log has not reached. Holds no buffer of its own:
        a slow reader only reads later, from the tail or from the disk."""
        if not 0 <= after <= self.head:
            raise InvalidInput(f"position {after} is not in this log; the newest is {self.head}")
        position = after
        while True:
            until = self.head
            found: Sequence[Recorded]
            batch = self._tail.after(position, READ_BATCH)
            if batch is None:
                found = await self._read(position, READ_BATCH, topics, stream, until)
                position = found[-1].position if len(found) == READ_BATCH else until
            else:
                found = _matching(batch, topics, stream)
                position = batch[-1].position if batch else position
            if found:
                yield found
            elif position >= self.head:
                await self._changed.wait()

    async def position_at(self, time: int) -> int:
        return min(await asyncio.to_thread(self.recorder.position_at, time), self.head)

    def previous_hash(self, position: int) -> bytes:
        return self.recorder.previous_hash(position)

    # --- personal data -----------------------------------------------------------------------------
    def open_record(self, record: SignedRecord) -> Event:
        topic, version, data = record.topic, record.schema_version, record.data.encode()
        where, keys = f"a record of {record.stream}", self.recorder.keys
        try:
            event = decode(topic, version, data, keys)
        except LogCorrupt as error:
            raise PeerMisbehaved(f"{where} can't be read: {error}") from error
        wrong = misplaced(topic, version, data, keys.of(scope_of(record.stream)))
        if wrong:
            raise PeerMisbehaved(f"{where} {wrong}")
        return event

    def seal_key(self, scope: str) -> bytes:
        return self.recorder.keys.secret(scope)

    def adopt_seal_key(self, scope: str, secret: bytes) -> None:
        self.recorder.keys.adopt(scope, secret)

    def pseudonym(self, text: str) -> str:
        return self.recorder.keys.pseudonym(text)

    async def destroy_seal_keys(self, scopes: Sequence[str]) -> int:
        self._check_usable()
        try:
            return await asyncio.to_thread(self.recorder.destroy_keys, scopes)
        except sqlite3.Error as error:
            raise LogUnavailable(f"the keys can't be destroyed: {error}; try again") from error
        finally:
            self._tail = Tail(self.head, self._tail.kept)  # what it holds is open; later readers go to the disk
            for scope in scopes:
                self._evict(streams_of(scope))

    def index(self, kind: type[A], restate: Callable[[str, A | None], None]) -> None:
        self._indexes.setdefault(kind, []).append(restate)

    def on_commit(self, tell: Callable[[int, float, float], None]) -> None:
        """Calls tell(events, seconds of the commit, seconds that its oldest command waited); must not raise."""
        self._on_commit.append(tell)

    def verify(self) -> Iterator[int]:
        """See SQLiteRecorder.verify; blocking."""
        return self.recorder.verify()


def _matching(events: Sequence[Recorded], topics: Sequence[str], stream: str) -> Sequence[Recorded]:
    if not topics and not stream:
        return events
    return [e for e in events if (not topics or e.topic in topics) and (not stream or e.originator_id == stream)]
