"""The table of advertisements: what this node hears of the compute providers of the network.

Every node keeps the whole table in memory and matches locally. News comes by gossip; who joins asks a neighbour for
its table (see ad_snapshots.py). Each entry is signed by its own provider.

A channel is a network of its own: only its providers are recorded, shown and matched. What is heard of
other channels (in snapshots, or from a provider that moves away) is kept only to be passed on, so that
two nodes of one channel find each other also through a neighbour that is on another.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from contextlib import aclosing

from dms.application.device.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.network.ad_snapshots import Snapshots
from dms.application.network.ad_space import MOST_AD_BYTES, AdSpace
from dms.application.network.budgets import Budgets
from dms.application.network.messages import AD_TOPIC
from dms.application.network.own_advertisement import OwnAdvertisement
from dms.application.network.provider_recorder import Entry, ProviderRecorder
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.domain.bounds import Unreadable, read
from dms.domain.device import Device
from dms.domain.directory import (
    Advertisement,
    OtherClock,
    Provider,
    SignedAdvertisement,
    check_advertisement,
    read_advertisement,
)
from dms.domain.offers import Offers
from dms.domain.run_time import Instant
from dms.errors import DmsError, NotFound, PeerMisbehaved
from dms.recent import Recent

log = logging.getLogger(__name__)

MOST_PROVIDERS = 200_000  # a bound on what strangers can make us remember
EXPIRY_SECONDS = 5.0
CLOCK_KNOWN_SECONDS = 180.0  # how long it is remembered that a provider's clock is another than ours
OWED_SECONDS = 1.0  # between two looks at what is still to be recorded
MOST_TOLD = 1000  # peers of whose bad advertisements the log has a word, and providers whose clocks are known


class Directory:
    """`offers` is what matching reads: of this node's channel what the log has, so that nobody is chosen whom the log
    does not know; and those that can't be chosen, so that it can say why not.

    Nothing here may take long with 100,000 providers known: what is in order is kept in order, as they come and go."""

    def __init__(
        self,
        log: EventLog,
        device: DeviceService,
        network: PeerNetwork,
        signer: Signer,
        own: OwnAdvertisement,
        clock: Callable[[], Instant],
        budgets: Budgets,
        loops: Loops | None = None,
    ) -> None:
        """clock: of this machine."""
        self._log, self._device, self._network, self._signer, self._clock = log, device, network, signer, clock
        self._loops = loops or Loops()
        self._snapshots = Snapshots(network, own, self, self.now, self._loops)
        self._table: dict[str, Entry] = {}
        self._budgets, self._space = budgets, AdSpace(budgets.is_known)
        self._recorder = ProviderRecorder(log, device, budgets, self._table.get, self._restate)
        self.offers = Offers()
        log.index(Provider, self._restate)
        self._ids: list[str] = []  # of the table, in order
        self._ends: list[tuple[int, str]] = []  # a heap with one entry a peer, which may be older than its renewal
        self._queued: set[str] = set()  # peers with an entry in the heap
        self._clocks: Recent[str, tuple[int, int]] = Recent(MOST_TOLD)  # peer id -> (seconds behind, heard at)
        self._told: Recent[str, None] = Recent(MOST_TOLD)
        self._running: list[Loop] = []
        self._topics: set[str] = set()
        self._channel = ""

    def serve(self) -> None:
        self._snapshots.serve()

    async def start(self) -> None:
        self._channel = self._device.channel
        self._listen()
        self._running = [
            self._loops.start("recording of providers", self._recorder.run),
            self._loops.start("channel of providers", self._follow_device),
            self._loops.every(OWED_SECONDS, "providers over their budget", self._recorder.record_owed, at_once=False),
            self._loops.every(EXPIRY_SECONDS, "expiry of providers", self._expire, at_once=False),
        ]
        await self._snapshots.start()

    async def close(self) -> None:
        for loop in self._running:
            await loop.close()
        await self._snapshots.close()

    def now(self) -> int:
        """The time by which entries and offers end: microseconds since the machine was started."""
        return self._clock().boot_us

    def advertisements(self) -> list[Advertisement]:
        """All that is known of this node's channel, by peer id."""
        return [self._table[peer_id].advertisement for peer_id in self.offers.ids_of(self._device.channel)]

    def addresses_of(self, peer_id: str) -> tuple[str, ...]:
        """Where the provider says that it can be dialled."""
        found = self._table.get(peer_id)
        return found.advertisement.addresses if found is not None else ()

    def other_clocks(self) -> dict[str, int]:
        """Providers that speak to us and whose word counts as expired, or as not valid yet: peer id -> seconds that
        their clock is behind ours, negative for ahead."""
        late = self.now() - int(CLOCK_KNOWN_SECONDS * 1_000_000)
        return {peer_id: behind for peer_id, (behind, at) in self._clocks.items() if at > late}

    def knows(self, peer_id: str) -> bool:
        """Whether it is among `advertisements`."""
        found = self._table.get(peer_id)
        return found is not None and found.advertisement.offering.channel == self._device.channel

    def refresh(self) -> None:
        """Asks all connected peers for their tables."""
        self._snapshots.ask_all()

    async def forget(self, peer_id: str) -> None:
        """Until it is heard of again. Raises NotFound."""
        if not self._drop(peer_id):
            raise NotFound(f"no compute provider {peer_id[:128]} is known")
        await self._recorder.save(peer_id, lambda provider: provider.lose("forgotten on request"))

    def ids_after(self, peer_id: str, most: int) -> tuple[list[str], int]:
        start = bisect_right(self._ids, peer_id)
        return self._ids[start : start + most], len(self._ids) - start

    def signed(self, peer_id: str) -> SignedAdvertisement:
        return self._table[peer_id].signed

    # --- the channel, and who is denied --------------------------------------------------------------
    async def _follow_device(self) -> None:
        batches = self._log.subscribe(self._log.head, topics=(Device.Onboarded.TOPIC, Device.PolicyChanged.TOPIC))
        async with aclosing(batches):
            self._move()  # to where it was onboarded before
            await self._drop_denied()  # while nothing was followed
            async for _ in batches:
                self._move()
                await self._drop_denied()

    async def _drop_denied(self) -> None:
        for peer_id in self._device.state.policy.peers.deny:
            if self._drop(peer_id):
                await self._recorder.save(peer_id, lambda provider: provider.lose("denied by the owner of this node"))

    def _move(self) -> None:
        """What is shown and matched is that of the channel which this node is on now."""
        self._listen()
        left, self._channel = self._channel, self._device.channel
        if left == self._channel:
            return
        for peer_id in (*self.offers.ids_of(left), *self.offers.ids_of(self._channel)):
            advertisement = self._table[peer_id].advertisement
            if self._may_be_chosen(advertisement):
                self.offers.drop(peer_id)  # until it is recorded
            self._note(advertisement)
        self._snapshots.ask_all()

    def _listen(self) -> None:
        topic = AD_TOPIC + self._device.channel
        if topic not in self._topics:
            self._topics.add(topic)
            self._network.serve_gossip(topic, self._on_gossip)

    # --- what is heard -------------------------------------------------------------------------------
    def _on_gossip(self, peer_id: str, body: bytes) -> None:
        self._snapshots.gossip_came(peer_id)
        try:
            signed = read(body, SignedAdvertisement)
        except Unreadable as error:
            self._tell_refused(peer_id, error)
        else:
            self.hear(peer_id, signed)

    def hear(self, teller: str, signed: SignedAdvertisement) -> bool:
        try:
            self._take(teller, signed)
        except DmsError as error:
            self._tell_refused(teller, error)
            return False
        return True

    def _tell_refused(self, teller: str, error: Exception) -> None:
        level = logging.DEBUG if teller in self._told else logging.WARNING
        log.log(level, "advertisement from %s refused: %s", teller, error, extra={"action": "ad_refused"})
        self._told[teller] = None

    def _take(self, teller: str, signed: SignedAdvertisement) -> None:
        """Newest sequence wins. Raises PeerMisbehaved on one that is not its provider's word."""
        size = len(signed.body)
        if size > MOST_AD_BYTES:
            raise PeerMisbehaved(f"an advertisement has {size} characters; at most {MOST_AD_BYTES} are taken")
        advertisement = read_advertisement(signed)
        peer_id = advertisement.peer_id
        if peer_id == self._signer.peer_id:
            return
        if self._device.denies(peer_id):
            return
        known = self._table.get(peer_id)
        if known is not None and known.advertisement.sequence >= advertisement.sequence:
            return
        now = self._clock()
        try:
            check_advertisement(signed, advertisement, now.wall_us, self._signer.verify)
        except OtherClock as error:
            if teller == peer_id:  # what others pass on may only be old
                self._clocks[peer_id] = error.behind_seconds, now.boot_us
            raise
        full = known is None and len(self._table) >= MOST_PROVIDERS
        if full or not self._space.take(peer_id, teller, size):
            raise PeerMisbehaved(f"{peer_id} is not remembered: as many providers are known as there is room for")
        if teller == peer_id:
            self._clocks.pop(peer_id, None)
        self._put(Entry(advertisement, signed, now.boot_us + advertisement.expires_at - now.wall_us, teller))
        before = known.advertisement if known is not None else None
        if before is None or before.addresses != advertisement.addresses:
            self._network.add_addresses(peer_id, advertisement.addresses)
        if self._is_news(advertisement, before):
            self._note(advertisement)

    def _put(self, entry: Entry) -> None:
        advertisement = entry.advertisement
        peer_id = advertisement.peer_id
        if peer_id not in self._table:
            insort(self._ids, peer_id)
        if peer_id not in self._queued:
            self._queued.add(peer_id)
            heapq.heappush(self._ends, (entry.ends_at, peer_id))
        self._table[peer_id] = entry
        row = self.offers.get(peer_id)
        if not self._may_be_chosen(advertisement):
            self.offers.put(peer_id, advertisement.offering, entry.ends_at)
        elif row is not None:  # another offering counts once it is recorded
            self.offers.put(peer_id, row.offering, entry.ends_at)

    def _may_be_chosen(self, advertisement: Advertisement) -> bool:
        offering = advertisement.offering
        return offering.onboarded and offering.channel == self._device.channel

    def _is_news(self, advertisement: Advertisement, before: Advertisement | None) -> bool:
        """Whether the log does not have it yet, as far as is known here; also when it could not be recorded."""
        if before is None or before.offering != advertisement.offering:
            return True
        row = self.offers.get(advertisement.peer_id)
        return self._may_be_chosen(advertisement) and (row is None or row.offering != advertisement.offering)

    def _restate(self, peer_id: str, provider: Provider | None) -> None:
        """What may be chosen follows the log: see `EventLog.index`."""
        known = self._table.get(peer_id)
        if known is None:
            self.offers.drop(peer_id)
        elif provider is not None and provider.offering is not None:
            self.offers.put(peer_id, provider.offering, known.ends_at)
        elif self._may_be_chosen(known.advertisement):
            self.offers.drop(peer_id)

    def _drop(self, peer_id: str) -> bool:
        """Whether it was known. What is left of it in the heap is met when its time comes."""
        if self._table.pop(peer_id, None) is None:
            return False
        self._space.drop(peer_id)
        self._recorder.forget(peer_id)
        del self._ids[bisect_left(self._ids, peer_id)]
        self.offers.drop(peer_id)
        return True

    # --- what is recorded ----------------------------------------------------------------------------
    def _note(self, advertisement: Advertisement) -> None:
        if not self._recorder.note(advertisement):
            self._drop(advertisement.peer_id)

    async def _expire(self) -> None:
        while (peer_id := self._next_ended()) is not None:
            self._drop(peer_id)
            await self._recorder.save(peer_id, lambda p: p.lose("its advertisement was not renewed"))
            await asyncio.sleep(0)

    def _next_ended(self) -> str | None:
        now = self.now()
        while self._ends and self._ends[0][0] <= now:
            _, peer_id = heapq.heappop(self._ends)
            known = self._table.get(peer_id)
            if known is not None and known.ends_at > now:
                heapq.heappush(self._ends, (known.ends_at, peer_id))
                continue
            self._queued.discard(peer_id)
            if known is not None:
                return peer_id
        return None
