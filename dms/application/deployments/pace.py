"""How often one peer, and all together, may ask for what costs something."""

from __future__ import annotations

import asyncio
from collections import deque

from dms.recent import Recent

MOST_PEERS = 4096  # remembered


class Pace:
    """most, most_of_one: so often within `seconds`, whatever end of them. In memory: a restart begins anew."""

    def __init__(self, most: int, most_of_one: int, seconds: float) -> None:
        self._most, self._most_of_one, self._seconds = most, most_of_one, seconds
        self._all = deque[float]()
        self._of_one = Recent[str, deque[float]](MOST_PEERS)

    def allows(self, peer: str) -> bool:
        """Counts it when it does."""
        now = asyncio.get_running_loop().time()
        own = self._of_one.get(peer) or deque[float]()
        for times in (self._all, own):
            while times and times[0] <= now - self._seconds:
                times.popleft()
        if len(self._all) >= self._most or len(own) >= self._most_of_one:
            return False
        self._all.append(now)
        own.append(now)
        self._of_one[peer] = own
        return True
