"""Blocking calls that somebody else answers, perhaps never: a directory service, or a disk of the network that holds a
user's file. Each has a thread of its own, so the event loop's few stay free for the log and the views, and the end of
the program waits for none."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import ParamSpec, TypeVar

from dms.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class OutsideCalls:
    """Few at once: one that hangs can't be ended, and keeps its place until it returns. Who asks about the same again,
    as peers do who try again, is refused meanwhile: one thing that hangs takes one place."""

    def __init__(self, who: str, seconds: float, most: int) -> None:
        """who: who answers, as in "WHO has not answered". seconds: how long a caller waits, with its turn."""
        self._who, self._seconds, self._most = who, seconds, most
        self._running = 0
        self._freed = asyncio.Event()
        self._hanging = Counter[str]()

    async def call(
        self, work: Callable[[], T], unwanted: Callable[[T], object] = lambda _result: None, *, about: str = ""
    ) -> T:
        """unwanted: gets what comes of it when nobody waits for it any more. about: what is asked about; empty for
        what is never the same. Raises Unavailable when it takes too long, or an earlier one about it does."""
        if about in self._hanging:
            raise Unavailable(f"{self._who} still has not answered what was asked before; try again later.")
        try:
            async with asyncio.timeout(self._seconds) as limit:
                running = await self._begun(work)
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    running.add_done_callback(partial(_drop, unwanted))
                    if about and limit.expired():
                        self._hangs(about, running)
                    raise
        except TimeoutError as error:
            raise Unavailable(f"{self._who} has not answered for {self._seconds:g} s; try again later.") from error

    async def _begun(self, work: Callable[[], T]) -> asyncio.Future[T]:
        while self._running >= self._most:
            await self._freed.wait()
        self._running += 1
        return in_a_thread(work, self._end)

    def _hangs(self, about: str, running: asyncio.Future[T]) -> None:
        def returned(_done: asyncio.Future[T]) -> None:
            self._hanging -= Counter([about])

        self._hanging[about] += 1
        running.add_done_callback(returned)

    def _end(self) -> None:
        self._running -= 1
        self._freed.set()
        self._freed = asyncio.Event()


def _drop(unwanted: Callable[[T], object], done: asyncio.Future[T]) -> None:
    if not done.cancelled() and done.exception() is None:
        unwanted(done.result())


def in_a_thread(work: Callable[[], T], ended: Callable[[], object]) -> asyncio.Future[T]:
    """In one of its own. ended: called on the loop, before who waits for it goes on."""
    running = asyncio.get_running_loop().run_in_executor(_THREADS, contextvars.copy_context().run, work)

    def end(done: asyncio.Future[T]) -> None:
        ended()
        if not done.cancelled():
            done.exception()  # seen, also when nobody waits for it any more

    running.add_done_callback(end)
    return running


class _ThreadEach(Executor):
    """None waits for another, and nobody for any at the end of the program."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = Future[T]()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  raised again where it is waited for
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            threading.Thread(target=run, name="outside call", daemon=True).start()
        except RuntimeError:  # the system's, or our user's, are used up
            future.set_exception(OSError(errno.EAGAIN, "no thread can be started"))
        return future


_THREADS = _ThreadEach()
