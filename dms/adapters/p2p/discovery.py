"""Keeps us connected: dials the peers that we want, for ever, with growing pauses. On the trio side."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from random import Random

import trio

from dms.adapters.p2p.addresses import AddressBook, DnsAddr
from dms.adapters.p2p.links import Links
from dms.backoff import nth_pause
from dms.errors import PeerUnreachable
from dms.recent import Recent

logger = logging.getLogger(__name__)

PAUSES_SECONDS = (1.0, 30.0)  # first and longest between two tries to dial a peer
_TICK_SECONDS = 0.5
_ENOUGH_LINKS = 6  # as many as gossip needs to survive the loss of some
_LOST_SECONDS = 600.0
_MAX_BOOTSTRAP = 256
_PAUSES = 10_000  # kept: as many as peers whose addresses are known; any stranger that connects has one
_MAX_WANTED = 64  # of the peers that mDNS found; bootstrap peers are always wanted
_YIELD_SECONDS = 2.0  # the side with the larger peer id dials later, so that both do not dial at once


class Discovery:
    """Wanted are: the bootstrap peers; those found on the local network; those that we were connected with; and
    while there are fewer than six links, any peer whose address is known."""

    def __init__(self, own_id: str, bootstrap: Sequence[str], book: AddressBook, names: Sequence[DnsAddr] = ()) -> None:
        self._own_id = own_id
        self._book = book
        self._bootstrap = set(bootstrap) - {own_id}
        self.names = tuple(names)  # bootstrap addresses that stand for others, which `found` tells
        self._met: dict[str, str] = {}  # bootstrap peer -> the id of who answered in its place
        self._nearby: dict[str, None] = {}
        self._lost: dict[str, float] = {}
        self._pauses: Recent[str, tuple[float, int]] = Recent(_PAUSES)  # peer -> (not before, tries that failed)
        self._connected: set[str] = set()
        self._random = Random(own_id)  # noqa: S311 -- spreads dials in time, guards nothing
        book.keep(self._is_wanted)

    def _is_wanted(self, peer_id: str) -> bool:
        """Whether its addresses are needed for longer than those of any peer that somebody tells of."""
        return any(peer_id in some for some in (self._bootstrap, self._nearby, self._lost, self._connected))

    def nearby(self, peer_id: str) -> None:
        """Found on the local network."""
        if not self._book.of(peer_id) or (peer_id not in self._nearby and len(self._nearby) >= _MAX_WANTED):
            return
        if peer_id not in self._nearby and peer_id < self._own_id:
            self._pauses.setdefault(peer_id, (time.monotonic() + _YIELD_SECONDS, 0))
        self._nearby[peer_id] = None

    def found(self, peer_id: str, address: str) -> None:
        """Behind a bootstrap address that is a name."""
        if peer_id != self._own_id and (peer_id in self._bootstrap or len(self._bootstrap) < _MAX_BOOTSTRAP):
            self._bootstrap.add(peer_id)
            if self._book.add(peer_id, [address]):
                self.moved(peer_id)

    def moved(self, peer_id: str) -> None:
        """An address of it is new: no reason to wait for the next try at the old ones."""
        if self._pauses.get(peer_id, (math.inf, 0))[0] != math.inf:
            self._pauses.pop(peer_id)

    def remembered(self, peer_ids: Sequence[str]) -> None:
        """Before `run`: those that were connected when this node last ran. They may look for us in vain, if our
        address is a new one."""
        until = time.monotonic() + _LOST_SECONDS
        for peer_id in peer_ids[:_MAX_WANTED]:
            self._lost[peer_id] = until

    def met_another(self, expected: str, address: str, met: str) -> None:
        """Who answers there has proved to be another peer than its address says."""
        if expected in self._bootstrap and self._met.get(expected) != met:
            self._met[expected] = met
            logger.warning(
                "the bootstrap peer at %s is %s, not %s as its address says: if it is the one you mean, "
                "put its id into p2p.bootstrap_peers",
                address, met, expected,
            )  # fmt: skip

    def connected(self, peer_id: str) -> None:
        self._met.pop(peer_id, None)
        self._connected.add(peer_id)
        self._lost.pop(peer_id, None)
        self._pauses.pop(peer_id, None)

    def disconnected(self, peer_id: str) -> None:
        self._connected.discard(peer_id)
        if len(self._lost) < _MAX_WANTED:
            self._lost[peer_id] = time.monotonic() + _LOST_SECONDS
        self._pauses[peer_id] = (time.monotonic() + self._random.uniform(0.05, 0.5), 0)

    async def run(self, links: Links) -> None:
        """For ever. May be run again, with the links of another host."""
        self._connected.clear()
        self._pauses.clear()
        async with trio.open_nursery() as nursery:
            while True:
                now = time.monotonic()
                for peer_id in self._due(now):
                    self._pauses[peer_id] = (math.inf, self._pauses.get(peer_id, (0.0, 0))[1])
                    nursery.start_soon(self._dial, links, peer_id)
                await trio.sleep(_TICK_SECONDS)

    def _due(self, now: float) -> list[str]:
        self._lost = {peer: until for peer, until in self._lost.items() if until > now}
        wanted = [*self._bootstrap, *self._nearby, *self._lost]
        missing = _ENOUGH_LINKS - len(self._connected)
        if missing > 0:
            known = [peer for peer in self._book.peers() if peer not in self._connected]
            wanted += self._random.sample(known, min(missing, len(known)))
        return [
            peer
            for peer in dict.fromkeys(wanted)
            if peer not in self._connected
            and peer != self._own_id
            and self._pauses.get(peer, (0.0, 0))[0] <= now
            and self._book.of(peer)
        ]

    async def _dial(self, links: Links, peer_id: str) -> None:
        try:
            await links.connect(peer_id)
        except PeerUnreachable as error:
            self._failed(peer_id, error, logging.INFO if peer_id in self._bootstrap else logging.DEBUG)
        except Exception as error:  # noqa: BLE001 -- nothing that a peer does may end the host (see fence.py)
            self._failed(peer_id, f"The dial of peer {peer_id} failed: {error!r}.", logging.WARNING)
        else:
            self._pauses.pop(peer_id, None)

    def _failed(self, peer_id: str, why: object, level: int) -> None:
        tries = self._pauses.get(peer_id, (0.0, 0))[1] + 1
        pause = nth_pause(tries, *PAUSES_SECONDS)
        self._pauses[peer_id] = (time.monotonic() + self._random.uniform(0.5, 1.0) * pause, tries)
        logger.log(level, "%s Next try in %.0f s.", why, pause)
