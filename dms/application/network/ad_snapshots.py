"""The exchange of whole tables: who joins asks its neighbours for theirs, and answers who asks for its own.

Each entry is signed by its own provider, so any peer may pass it on. Gossip may never reach a neighbour, as when its
stream failed while the connection was made: so those that are connected and not heard of are asked what they offer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from bisect import insort
from collections.abc import Callable
from typing import Protocol

from dms.application.loops import Loop, Loops
from dms.application.network.messages import (
    AD_SNAPSHOT,
    Snapshot,
    SnapshotRequest,
    decode_answer,
    decode_request,
    encode,
)
from dms.application.network.own_advertisement import RENEW_SECONDS, OwnAdvertisement
from dms.application.ports.peers import PeerNetwork
from dms.application.tasks import background, cancelled
from dms.domain.directory import LIFETIME_SECONDS, SignedAdvertisement, read_advertisement
from dms.errors import DmsError, PeerMisbehaved
from dms.recent import Recent

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0  # how often neighbours that were not heard of are asked
ASKED_AT_ONCE = 4
PAGE = 100
PAGE_BYTES = 128 * 1024
TIMEOUT_SECONDS = 10.0
MOST_PAGES = 4000  # of one table: twice what `directory` remembers at most
TABLE_SECONDS = 2.0 * LIFETIME_SECONDS  # for one whole table: what comes later has been renewed, and comes by gossip
CHECKED_AT_ONCE = 8  # signatures between two breaths of the loop: about a millisecond
MOST_HEARD_OF = 10_000  # neighbours that gossip reaches; one that is forgotten is asked once more


class Table(Protocol):
    """What is known of others."""

    def hear(self, teller: str, signed: SignedAdvertisement) -> bool:
        """False for one that is refused."""

    def ids_after(self, peer_id: str, most: int) -> tuple[list[str], int]:
        """The next peer ids, in order, and how many there are in all behind it."""

    def signed(self, peer_id: str) -> SignedAdvertisement:
        """Raises KeyError."""


class Snapshots:
    def __init__(
        self,
        network: PeerNetwork,
        own: OwnAdvertisement,
        table: Table,
        clock: Callable[[], int],
        loops: Loops | None = None,
    ) -> None:
        """clock: microseconds that no step of the wall clock moves."""
        self._network, self._own, self._table, self._clock = network, own, table, clock
        self._loops = loops or Loops()
        self._gossiped: Recent[str, int] = Recent(MOST_HEARD_OF)  # peer id -> when its gossip last came, in order
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._asking: Loop | None = None

    def serve(self) -> None:
        self._network.serve_request(AD_SNAPSHOT, self._on_request)
        self._network.on_peer(self._on_peer)

    async def start(self) -> None:
        self._asking = self._loops.every(ASK_SECONDS, "asking of neighbours", self._ask_neighbours, at_once=False)
        self.ask_all()

    async def close(self) -> None:
        if self._asking is not None:
            await self._asking.close()
        for task in list(self._fetching.values()):
            await cancelled(task)

    def ask_all(self) -> None:
        """All connected peers, for their whole tables."""
        for peer in self._network.peers():
            self._begin_fetch(peer.peer_id, own=False)

    def gossip_came(self, peer_id: str) -> None:
        self._gossiped[peer_id] = self._clock()

    async def fetch(self, peer_id: str, *, own: bool) -> None:
        """own: only what that peer says of itself. One that can't be asked has nothing to tell."""
        try:
            async with asyncio.timeout(TABLE_SECONDS):
                await self._read_table(peer_id, own=own)
        except TimeoutError:
            log.info("the table of %s was not read to its end within %g s", peer_id, TABLE_SECONDS)
        except DmsError as error:
            # A peer that is not a DMS, or is gone again: nothing to be mended here.
            log.debug("no advertisements from %s: %s", peer_id, error)

    async def _read_table(self, peer_id: str, *, own: bool) -> None:
        """To its end, or as far as there is anything to be had."""
        after = ""
        for _ in range(MOST_PAGES):
            body = encode(SnapshotRequest(after=after, own=own))
            answer = await self._network.request(peer_id, AD_SNAPSHOT, body, TIMEOUT_SECONDS)
            page = decode_answer(peer_id, answer, Snapshot)
            taken = await self._hear_page(peer_id, page)
            if own or not page.more or not taken:
                return
            last = read_advertisement(page.advertisements[-1]).peer_id
            if last <= after:
                raise PeerMisbehaved(f"{peer_id} sends its table in circles")
            after = last
        raise PeerMisbehaved(f"{peer_id} sends a table without an end")

    async def _hear_page(self, peer_id: str, page: Snapshot) -> bool:
        """Whether any of it was taken."""
        taken = False
        for number, signed in enumerate(page.advertisements):
            taken |= self._table.hear(peer_id, signed)
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return taken

    def _on_peer(self, peer_id: str, connected: bool) -> None:
        if connected:
            self._begin_fetch(peer_id, own=False)

    def _begin_fetch(self, peer_id: str, *, own: bool) -> None:
        if peer_id not in self._fetching:
            task = background(self.fetch(peer_id, own=own), f"advertisements of {peer_id}")
            self._fetching[peer_id] = task
            task.add_done_callback(lambda _: self._fetching.pop(peer_id, None))

    async def _ask_neighbours(self) -> None:
        """A few each time, so that all are asked in turn."""
        late = self._clock() - int(1.5 * RENEW_SECONDS * 1_000_000)
        while self._gossiped and next(iter(self._gossiped.values())) < late:
            self._gossiped.popitem(last=False)
        silent = [peer.peer_id for peer in self._network.peers() if peer.peer_id not in self._gossiped]
        for peer_id in random.sample(silent, min(ASKED_AT_ONCE, len(silent))):
            self._begin_fetch(peer_id, own=True)

    async def _on_request(self, _peer_id: str, body: bytes) -> bytes:
        request = decode_request(body, SnapshotRequest)
        own = self._own.peer_id
        told = await self._own.signed() if self._own.offers and own > request.after else None
        ids, left = ([], 0) if request.own else self._table.ids_after(request.after, PAGE)
        if told is not None:
            insort(ids, own)
            left += 1
        page: list[SignedAdvertisement] = []
        size = 0
        for peer_id in ids[:PAGE]:
            signed = told if told is not None and peer_id == own else self._table.signed(peer_id)
            size += 2 * len(signed.body)
            if page and size > PAGE_BYTES:
                break
            page.append(signed)
        return encode(Snapshot(advertisements=tuple(page), more=len(page) < left))
