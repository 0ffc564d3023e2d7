"""Blocking work that may take minutes, in threads of its own: the event loop's few are for what is done in a moment,
such as the log's commits and reads, which must not wait for a stranger's archive."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 4, thread_name_prefix="long work")


async def long_work(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As asyncio.to_thread. Who is cancelled does not wait for it."""
    return await _begun(partial(work, *args, **kwargs))


async def stoppable(work: Callable[[threading.Event], T]) -> T:
    """`work` gets an event that is set when the caller is cancelled; it has ended, or never begins, when this returns,
    so the next one never meets it."""
    stopped, begins, begun = threading.Event(), threading.Lock(), threading.Event()

    def unless_stopped() -> T:
        with begins:
            if stopped.is_set():
                raise CancelledError
            begun.set()
        return work(stopped)

    running = _begun(unless_stopped)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with begins:
            stopped.set()
        running.add_done_callback(_see)
        if begun.is_set():
            await asyncio.wait({running})
        raise


def _see(done: asyncio.Future[Any]) -> None:
    """What nobody waits for any more."""
    if not done.cancelled():
        done.exception()


def _begun(work: Callable[[], T]) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(_THREADS, contextvars.copy_context().run, work)
