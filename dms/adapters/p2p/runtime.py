"""Where asyncio and trio meet, and the only place: libp2p runs on trio, in a thread of its own.

`TrioThread` runs the host and carries calls both ways; `Pipe` carries a stream of frames either way with
bounded memory, so that a slow reader on one side slows the writer on the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar, TypeVarTuple

import outcome
import trio

from dms.errors import PeerUnreachable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stopped(PeerUnreachable):
    """The trio side isn't running (any more)."""


@asynccontextmanager
async def task_group() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises one error as it is, not in a group: the first, when several tasks fail."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from None


class TrioThread:
    """One run of trio beside one asyncio loop. Made, started and called on the asyncio side.

    `ended` is done when the thread's run is over: with None, or with the error that ended it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._calls: set[asyncio.Future[Any]] = set()
        self._token: trio.lowlevel.TrioToken
        self._nursery: trio.Nursery

    async def start(self, main: Callable[[Callable[[T], None]], Awaitable[None]]) -> T:
        """Runs main(started) in trio and answers what it calls `started` with. Raises what main raises."""
        up: asyncio.Future[T] = self._loop.create_future()
        self._calls.add(up)
        threading.Thread(target=self._run, args=(main, up), name="p2p", daemon=True).start()
        try:
            return await up
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _run(self, main: Callable[[Callable[[T], None]], Awaitable[None]], up: asyncio.Future[T]) -> None:
        async def everything() -> None:
            self._token = trio.lowlevel.current_trio_token()
            async with task_group() as self._nursery:
                await main(lambda result: self._settle(up, outcome.Value(result)))
                self._nursery.cancel_scope.cancel()

        result = outcome.capture(trio.run, everything)
        self.to_asyncio(self._finish, result)

    def _finish(self, result: outcome.Outcome[None]) -> None:
        error = result.error if isinstance(result, outcome.Error) else None
        for call in list(self._calls):
            if not call.done():
                call.set_exception(error if isinstance(error, Exception) else Stopped("The p2p host stopped."))
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
            self.ended.exception()  # read here: whether anyone else does, depends on when we are closed

    def _settle(self, call: asyncio.Future[T], result: outcome.Outcome[T]) -> None:
        def settle() -> None:
            if call.done():
                return
            if isinstance(result, outcome.Error):
                call.set_exception(result.error)
            else:
                call.set_result(result.unwrap())

        self.to_asyncio(settle)

    def to_asyncio(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """From any thread: runs function on the asyncio loop, soon. Nothing happens if that loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def post(self, function: Callable[[], object]) -> bool:
        """From any thread: runs function in trio, soon. False if trio has ended."""
        try:
            self._token.run_sync_soon(function)
        except (trio.RunFinishedError, AttributeError):  # AttributeError: has not begun
            return False
        return True

    def cancel(self) -> None:
        self.post(self._nursery.cancel_scope.cancel)

    async def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """From asyncio: awaits function(*args) in trio. Cancelling this cancels that."""
        call: asyncio.Future[T] = self._loop.create_future()
        scope = trio.CancelScope()

        async def job() -> None:
            result: outcome.Outcome[T] | None = None
            with scope:
                result = await outcome.acapture(function, *args)
                if isinstance(result, outcome.Error) and not isinstance(result.error, Exception):
                    result.unwrap()  # trio must see its own cancellation
            if result is None:
                result = outcome.Error(Stopped("The p2p host is stopping."))
            self._settle(call, result)

        def begin() -> None:
            try:
                self._nursery.start_soon(job)
            except RuntimeError:  # the nursery is closed: trio is on its way out
                self._settle(call, outcome.Error(Stopped("The p2p host is stopping.")))

        if not self.post(begin):
            raise Stopped("The p2p host isn't running.")
        self._calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            self.post(scope.cancel)
            raise
        finally:
            self._calls.discard(call)

    async def ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """From trio: awaits work() on the asyncio loop. Cancelling this cancels that."""
        done = trio.Event()
        task: asyncio.Task[T] | None = None
        given_up = False

        def begin() -> None:
            nonlocal task
            if given_up:
                return
            task = self._loop.create_task(work())
            task.add_done_callback(finish)

        def finish(finished: asyncio.Task[T]) -> None:
            if not finished.cancelled():
                finished.exception()  # read here: nobody may be waiting any more
            self.post(done.set)

        def give_up() -> None:
            nonlocal given_up
            given_up = True
            if task is not None:
                task.cancel()

        self.to_asyncio(begin)
        try:
            await done.wait()
        finally:
            if not done.is_set():
                self.to_asyncio(give_up)
        assert task is not None  # noqa: S101 -- done is set by the task's own callback only
        if task.cancelled():
            raise Stopped("The asyncio side is stopping.")
        return task.result()


class PipeClosed(Exception):
    """The other end of a pipe is done with it."""


class _Event(Protocol):
    def set(self) -> object: ...
    async def wait(self) -> object: ...


class Side:
    """One of the two loops, as an end of a pipe needs it."""

    def __init__(self, event: Callable[[], _Event], run: Callable[[Callable[[], object]], object]) -> None:
        self.event = event
        self.run = run

    @classmethod
    def asyncio(cls, thread: TrioThread) -> Side:
        return cls(asyncio.Event, thread.to_asyncio)

    @classmethod
    def trio(cls, thread: TrioThread) -> Side:
        return cls(trio.Event, thread.post)


class Pipe:
    """Frames from one loop to the other, in order, at most about `limit` bytes at a time.

    The loops wake each other only when one of them waits: a busy stream costs a lock a frame, no more."""

    _FRAME_COST = 512  # what an empty frame counts for, so that tiny ones are bounded too

    def __init__(self, sender: Side, receiver: Side, limit: int = 1 << 20) -> None:
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._limit = limit
        self._closed = False
        self._error: Exception | None = None
        self._sides = {"sender": sender, "receiver": receiver}
        self._parked: dict[str, _Event] = {}

    async def send(self, frame: bytes) -> None:
        """Waits while the pipe is full. Raises PipeClosed when the receiver is gone."""
        while True:
            with self._lock:
                if self._closed:
                    raise PipeClosed
                if self._size < self._limit:
                    self._frames.append(frame)
                    self._size += len(frame) + self._FRAME_COST
                    self._wake("receiver")
                    return
                event = self._park("sender")
            await event.wait()

    async def receive(self, batch_bytes: int = 0) -> list[bytes]:
        """The next frame, and those behind it until they come to batch_bytes together. At the end raises
        PipeClosed, or the error it was closed with."""
        while True:
            with self._lock:
                if self._frames:
                    return self._take(batch_bytes)
                if self._closed:
                    raise self._error or PipeClosed
                event = self._park("receiver")
            await event.wait()

    def _take(self, batch_bytes: int) -> list[bytes]:
        frames = [self._frames.popleft()]
        size = len(frames[0])
        while self._frames and size + len(self._frames[0]) <= batch_bytes:
            frames.append(self._frames.popleft())
            size += len(frames[-1])
        self._size -= size + len(frames) * self._FRAME_COST
        if self._size <= self._limit // 2:
            self._wake("sender")
        return frames

    def close(self, error: Exception | None = None) -> None:
        """By the sender: what is inside can still be received. The first close counts."""
        with self._lock:
            if not self._closed:
                self._closed, self._error = True, error
            self._wake("receiver")
            self._wake("sender")

    def abandon(self) -> None:
        """By the receiver: what is inside is thrown away."""
        with self._lock:
            self._frames.clear()
        self.close()

    def _park(self, end: str) -> _Event:
        event = self._parked[end] = self._sides[end].event()
        return event

    def _wake(self, end: str) -> None:
        event = self._parked.pop(end, None)
        if event is not None:
            self._sides[end].run(event.set)
