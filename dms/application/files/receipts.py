"""Tells a peer that a file which it gave is here, so that it needs not keep it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import News
from dms.errors import DmsError, Unavailable

log = logging.getLogger(__name__)

NOTE_SECONDS = 10.0
RETRY_SECONDS = 5.0


class Receipt:
    """Given before it is recorded that the file is here: a crash in between gives it again. What the crash did not
    lose is tried again for a while, and then the peer keeps the file for as long as it keeps what nobody fetches."""

    def __init__(self, network: PeerNetwork, peer_id: str, protocol: str, body: bytes) -> None:
        self._network, self._peer_id, self._protocol, self._body = network, peer_id, protocol, body
        self.given = False

    async def give(self) -> None:
        try:
            await self._network.request(self._peer_id, self._protocol, self._body, NOTE_SECONDS)
        except Unavailable as error:  # away, or it can't write just now
            log.info("provider %s is not told yet that its file is here: %s", self._peer_id, error)
            return
        except DmsError as refused:  # it knows nothing of it any more
            log.info("provider %s, told that its file is here, says: %s", self._peer_id, refused)
        self.given = True

    async def give_again(self, news: News, seconds: float, is_wanted: Callable[[], bool]) -> None:
        """Until it is heard, for so long at most. news: tells when the peer comes."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while not self.given and is_wanted() and clock() < deadline:
            await news.changed(RETRY_SECONDS)
            if is_wanted():
                await self.give()
