"""Blocking calls that somebody else answers, perhaps never: a directory service, or a disk of the network that holds a
user's file. Each has a thread of its own, so the event loop's few stay free for the log and the views, and the end of
the program waits for none."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dms.errors import Unavailable

T = TypeVar("T")


class OutsideCalls:
    """Few at once: one that hangs can't be ended, and keeps its place until it returns."""

    def __init__(self, who: str, seconds: float, most: int) -> None:
        """who: who answers, as in "WHO has not answered". seconds: how long a caller waits, with its turn."""
        self._who, self._seconds, self._most = who, seconds, most
        self._running = 0
        self._freed = asyncio.Event()

    async def call(self, work: Callable[[], T], unwanted: Callable[[T], object] = lambda _result: None) -> T:
        """unwanted: gets what comes of it when nobody waits for it any more. Raises Unavailable when it takes too
        long."""
        try:
            async with asyncio.timeout(self._seconds):
                running = await self._begun(work)
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    running.add_done_callback(partial(_drop, unwanted))
                    raise
        except TimeoutError as error:
            raise Unavailable(f"{self._who} has not answered for {self._seconds:g} s; try again later.") from error

    async def _begun(self, work: Callable[[], T]) -> asyncio.Future[T]:
        while self._running >= self._most:
            await self._freed.wait()
        self._running += 1
        return in_a_thread(partial(contextvars.copy_context().run, work), self._end)

    def _end(self) -> None:
        self._running -= 1
        self._freed.set()
        self._freed = asyncio.Event()


def _drop(unwanted: Callable[[T], object], done: asyncio.Future[T]) -> None:
    if not done.cancelled() and done.exception() is None:
        unwanted(done.result())


def in_a_thread(work: Callable[[], T], ended: Callable[[], object]) -> asyncio.Future[T]:
    """In one of its own, which nobody waits for at the end of the program. ended: called on the loop first."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[], object]) -> None:
        ended()
        settle()

    def run() -> None:
        settle: Callable[[], object]
        try:
            settle = partial(answer.set_result, work())
        except Exception as error:  # noqa: BLE001  # raised again where it is waited for
            settle = partial(_fail, answer, error)
        try:
            loop.call_soon_threadsafe(tell, settle)
        except RuntimeError:  # the loop was closed meanwhile
            ended()

    threading.Thread(target=run, name="outside call", daemon=True).start()
    return answer


def _fail(answer: asyncio.Future[T], error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # seen, also when nobody waits for it any more
