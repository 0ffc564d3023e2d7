"""One task for each job that needs work, woken when something about its job changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from dms.errors import DmsError, LogUnavailable, Unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 60.0)  # first and longest pause


class JobTasks:
    """Runs `drive(job_id)` until it returns; drives again after a pause when what it needs is away.

    A drive reads the state, does what is next and returns when nothing is left, so running it anew
    is always safe: that is how a restart goes on.
    """

    def __init__(self, name: str, drive: Callable[[str], Awaitable[None]]) -> None:
        self._name, self._drive = name, drive
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}

    def start(self, job_id: str) -> None:
        """Once a job; again is fine."""
        if job_id not in self._tasks:
            self._wakes[job_id] = asyncio.Event()
            task = asyncio.create_task(self._run(job_id), name=f"{self._name} {job_id}")
            self._tasks[job_id] = task
            task.add_done_callback(lambda _: self._forget(job_id))

    def wake(self, job_id: str) -> None:
        """Says that the job's state changed."""
        event = self._wakes.get(job_id)
        if event is not None:
            event.set()

    async def changed(self, job_id: str, timeout_seconds: float | None = None) -> bool:
        """Waits for the next wake; False when the time ran out first."""
        event = self._wakes[job_id]
        try:
            async with asyncio.timeout(timeout_seconds):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    def jobs(self) -> list[str]:
        """Ids of the jobs at work, oldest first (UUIDv7s sort by age)."""
        return sorted(self._tasks)

    async def close(self) -> None:
        """Stops the tasks where they are; the next start goes on from the log."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, job_id: str) -> None:
        self._tasks.pop(job_id, None)
        self._wakes.pop(job_id, None)

    async def _run(self, job_id: str) -> None:
        pause, longest = RETRY_SECONDS
        while True:
            try:
                await self._drive(job_id)
            except (LogUnavailable, Unavailable) as error:
                log.warning(
                    "%s %s waits: %s", self._name, job_id, error, extra={"action": "job_waits", "job_id": job_id}
                )
            except DmsError as error:
                log.error("%s %s: %r", self._name, job_id, error, extra={"action": "job_error", "job_id": job_id})
            except Exception:  # the outermost loop of a task: nothing may end it silently
                log.exception(
                    "%s %s: unexpected error", self._name, job_id, extra={"action": "job_crash", "job_id": job_id}
                )
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)


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
