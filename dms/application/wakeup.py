"""Waking those who wait for a change."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Wakes all who wait now; who comes later waits for the next time. So check first, then wait, with no await
    between."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def wake(self) -> None:
        reached, self._next = self._next, asyncio.Event()
        reached.set()

    async def wait(self) -> None:
        await self._next.wait()
