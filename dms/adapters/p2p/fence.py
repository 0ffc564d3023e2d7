"""The outermost handler of tasks that serve one peer: nothing that a peer does may end the host, which is one trio
program. What the libraries underneath raise on hostile bytes can't be listed: five packages decode them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

logger = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")


async def fenced(peer_id: str, work: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
    """Awaits work(*args). An error of it is logged, and goes no further; a cancellation does."""
    try:
        await work(*args)
    except Exception as error:  # noqa: BLE001 -- see the module
        logger.warning("a task that serves peer %s failed: %r", peer_id, error)
