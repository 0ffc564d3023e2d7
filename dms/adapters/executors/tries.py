"""Tries that make something in the container engine and take it away again, whoever still waits for what they find.

A loop that is to end is cancelled again and again. That would cut the taking away short as well, and what the engine is
just then making could not be taken away before it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from dms.application.tasks import cancelled

T = TypeVar("T")

CLOSE_SECONDS = 10.0


class Tries(Generic[T]):
    def __init__(self, name: str) -> None:
        """name: of each, for people."""
        self._name = name
        self._running: set[asyncio.Task[T]] = set()

    async def result(self, trying: Coroutine[Any, Any, T]) -> T:
        """What it finds. Who waits no more does not end it."""
        task = asyncio.create_task(trying, name=self._name)
        self._running.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for those that go on, within CLOSE_SECONDS; the next start removes what a longer one leaves."""
        if not (tasks := set(self._running)):
            return
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for task in tasks:
            await cancelled(task)

    def _over(self, task: asyncio.Task[T]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # told by whoever waits; there may be nobody
