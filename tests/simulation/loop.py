"""An asyncio loop without a clock, threads or sockets: time passes only when nothing is left to do, and which of the
callbacks that are ready runs next is drawn from a seed. So a seed has one run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
A = TypeVarTuple("A")
_MANY = 2000

LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
"""Whose task this is. Whatever a task begins is of the same life."""


class Life:
    """One run of a program, until it is killed: then nothing of it runs any more, no `finally` either."""

    def __init__(self, name: str) -> None:
        self.name, self.alive = name, True


class Deadlock(Exception):
    """Nothing is ready, no timer is set, and what was to happen has not."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """It stands on `BaseEventLoop._ready`, `_scheduled` and `_run_once`, which are private: test_loop.py holds what it
    needs of them."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.now_seconds = 0.0
        self.thread_seconds: Callable[[], float] = lambda: 0.0
        """How long what is given to a thread seems to take, asked for each."""
        self.steps = 0
        self.errors: list[str] = []  # that nobody took
        self._random = random
        self._made: list[tuple[asyncio.Task[Any], Context]] = []
        """Held, so that none is collected, which would run its `finally`."""
        self._many = _MANY
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.now_seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[A]], T], *args: *A
    ) -> asyncio.Future[T]:
        """Done at once; who waits for it hears of it after a while, or never when it is killed first."""
        done: asyncio.Future[T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001  it belongs to who waits
            self.call_later(self.thread_seconds(), _unless_done(done, done.set_exception), error)
        else:
            self.call_later(self.thread_seconds(), _unless_done(done, done.set_result), result)
        return done

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[A]], object], *args: *A, context: Context | None = None
    ) -> asyncio.Handle:
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)

    def end(self) -> None:
        """Nothing goes on. What tasks that are still there do when they are closed has no effect any more, and what
        they can't do any more is not told."""
        told, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            for task, context in self._made:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with contextlib.suppress(BaseException):
                        context.run(task.get_coro().close)
            self._made.clear()
            self._ready.clear()
            self._scheduled.clear()
            self.close()
            gc.collect()
        finally:
            sys.unraisablehook = told

    def _run_once(self) -> None:
        self._take_timers()
        handles = [handle for handle in self._ready if not handle._cancelled and _lives(handle)]
        self._ready.clear()
        if len(handles) > 1:
            self._random.shuffle(handles)
        for handle in handles:
            if not handle._cancelled and _lives(handle):  # an earlier one may have killed it
                handle._run()
        self.steps += 1

    def _take_timers(self) -> None:
        """Those that are due; while nothing else is to do, time passes until the next is."""
        timers = self._scheduled
        while timers and (timers[0]._cancelled or not _lives(timers[0])):
            _taken(timers)
        if not self._ready and not self._stopping:
            if not timers:
                raise Deadlock("nothing is left to do, and the end is not reached")
            self.now_seconds = max(self.now_seconds, timers[0].when())
        while timers and timers[0].when() <= self.now_seconds:
            self._ready.append(_taken(timers))

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> asyncio.Task[Any]:
        context = copy_context() if context is None else context
        task = asyncio.Task(coro, loop=loop, context=context)
        self._made.append((task, context))
        if len(self._made) > self._many:
            self._made = [made for made in self._made if not made[0].done()]
            self._many = 2 * len(self._made) + _MANY
        return task

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def _check_closed(self) -> None:
        """What is collected after the end may still ask for something."""

    def _process_events(self, event_list: Any) -> None: ...

    def _write_to_self(self) -> None: ...


def _taken(timers: list[asyncio.TimerHandle]) -> asyncio.TimerHandle:
    """The next one, which is no longer in the heap: so it says when it is cancelled."""
    timer = heapq.heappop(timers)
    timer._scheduled = False  # type: ignore[attr-defined]
    return timer


def _unless_done(future: asyncio.Future[Any], tell: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: None if future.done() else tell(value)


def _lives(handle: events.Handle) -> bool:
    life: Life | None = handle._context.get(LIFE)  # type: ignore[attr-defined]
    return life is None or life.alive
