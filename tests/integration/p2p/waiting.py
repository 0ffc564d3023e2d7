"""Waiting for a condition that no event tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import trio


async def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """As `wait_until`, in trio. Raises TooSlowError."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.01)
