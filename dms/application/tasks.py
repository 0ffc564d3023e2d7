"""Small pieces for work in tasks: its end, its errors, its turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from dms.errors import DmsError

T = TypeVar("T")
log = logging.getLogger(__name__)


def background(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Work that has an end and that nobody waits for: its error is logged. What must go on is a loop (see Loops)."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell)
    return task


def _tell(task: asyncio.Task[Any]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    told = {"action": "task_failed", "task": task.get_name()}
    if isinstance(error, DmsError):
        log.warning("%s: %s", task.get_name(), error, extra=told)
    else:
        log.error("%s: unexpected error", task.get_name(), exc_info=error, extra=told)


async def either(running: asyncio.Future[Any], waiting: Coroutine[Any, Any, Any]) -> None:
    """Returns once one of the two is done. What `waiting` raised is raised here; if it is not done, it is ended."""
    waiter = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait([running, waiter], return_when=asyncio.FIRST_COMPLETED)
        if waiter.done():
            waiter.result()
    finally:
        await cancelled(waiter)


async def patiently(steps: Generator[None, None, T]) -> T:
    """What the steps come to; other work of the loop goes on between them."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Ends a task and waits for it; what it raised was seen by whoever waited for its result."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
