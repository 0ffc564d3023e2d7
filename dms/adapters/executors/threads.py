"""Long blocking work in a thread that ends when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def stoppable(work: Callable[[threading.Event], T]) -> T:
    """`work` gets an event that is set when the caller is cancelled; the thread has ended when this returns,
    so the next one never meets it."""
    stopped = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stopped))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # seen
        raise
