"""Trouble with this machine's own files, which mostly passes: whether it has lasted for so long that nobody waits."""

from __future__ import annotations

import asyncio

from dms.recent import Recent

MOST_REMEMBERED = 10_000  # of some, nobody says when they are over


class Lasting:
    """By key. When it began is no event: a restart begins the wait anew."""

    def __init__(self) -> None:
        self._since: Recent[str, float] = Recent(MOST_REMEMBERED)  # by the loop's clock

    def has_lasted(self, key: str, seconds: float) -> bool:
        """Said of one in trouble now: whether it has been for so long."""
        now = asyncio.get_running_loop().time()
        return now - self._since.setdefault(key, now) >= seconds

    def forget(self, key: str) -> None:
        """It works, or nobody needs it any more."""
        self._since.pop(key, None)
