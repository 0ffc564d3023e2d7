"""The table of advertisements: what this node tells the network of itself, and what it hears of others.

Every node keeps the whole table in memory and matches locally. News comes by gossip; who joins asks
a neighbour for its table. Each entry is signed by its own provider, so any peer may pass it on.

A channel is a network of its own: only its providers are recorded, shown and matched. What is heard of
other channels (in snapshots, or from a provider that moves away) is kept only to be passed on, so that
two nodes of one channel find each other also through a neighbour that is on another.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable

from dms.application.device.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.network.messages import (
    AD_SNAPSHOT,
    AD_TOPIC,
    Snapshot,
    SnapshotRequest,
    decode_answer,
    decode_request,
    encode,
)
from dms.application.ports import EventLog, PeerNetwork, Signer
from dms.application.tasks import background, cancelled
from dms.domain.bounds import Unreadable, read
from dms.domain.directory import (
    LIFETIME_SECONDS,
    Advertisement,
    OtherClock,
    Provider,
    SignedAdvertisement,
    check_advertisement,
    read_advertisement,
)
from dms.domain.offers import Offers
from dms.errors import DmsError, NotFound, PeerMisbehaved, Unavailable

log = logging.getLogger(__name__)

RENEW_SECONDS = 60.0
REPEAT_SECONDS = (1.0, 4.0, 15.0)  # after a change: gossip loses what is said before its mesh has formed
ASK_SECONDS = 5.0  # how often neighbours that were not heard of are asked
ASKED_AT_ONCE = 4
SETTLE_SECONDS = 0.05  # changes that come together are told together
SNAPSHOT_PAGE = 100
SNAPSHOT_TIMEOUT_SECONDS = 10.0
MOST_PROVIDERS = 200_000  # a bound on what strangers can make us remember
EXPIRY_SECONDS = 5.0
CLOCK_KNOWN_SECONDS = 180.0  # how long it is remembered that a provider's clock is another than ours
MOST_TOLD = 1000  # peers of whose bad advertisements the log has a word, and providers whose clocks are known
CHECKED_AT_ONCE = 8  # signatures between two breaths of the loop: about a millisecond


class Directory:
    """Own advertisement out, others' in. `offers` is what matching reads: of this node's channel what the log has, so
    that nobody is chosen whom the log does not know; and those that can't be chosen, so that it can say why not.

    Nothing here may take long with 100,000 providers known: what is in order is kept in order, as they come and go."""

    def __init__(
        self,
        log: EventLog,
        device: DeviceService,
        network: PeerNetwork,
        signer: Signer,
        now: Callable[[], int],
        loops: Loops | None = None,
    ) -> None:
        self._log, self._device, self._network, self._signer, self._now = log, device, network, signer, now
        self._table: dict[str, tuple[Advertisement, SignedAdvertisement]] = {}
        self.offers = Offers()
        log.index(Provider, self._restate)
        self._ids: list[str] = []  # of the table, in order
        self._expiries: list[tuple[int, str]] = []  # a heap with one entry a peer, which may be older than its renewal
        self._queued: set[str] = set()  # peers with an entry in the heap
        self._clocks: OrderedDict[str, tuple[int, int]] = OrderedDict()  # peer id -> (seconds behind, heard at)
        self._told: OrderedDict[str, None] = OrderedDict()
        self._stirred = asyncio.Event()
        self._heard: asyncio.Queue[Advertisement] = asyncio.Queue(maxsize=10_000)
        self._loops = loops or Loops()
        self._running: list[Loop] = []
        self._gossiped: OrderedDict[str, int] = OrderedDict()  # peer id -> Unix µs when its gossip last came, in order
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._topics: set[str] = set()
        self._channel = ""
        self._offered = False  # whether anybody was told lately that something is offered here

    def serve(self) -> None:
        self._network.serve_request(AD_SNAPSHOT, self._on_snapshot)
        self._network.on_peer(self._on_peer)

    async def start(self) -> None:
        self._channel = self._device.channel
        self._listen()
        self._running = [
            self._loops.start("own advertisement", self._advertise),
            self._loops.start("recording of providers", self._record),
            self._loops.every(EXPIRY_SECONDS, "expiry of providers", self._expire, at_once=False),
            self._loops.every(ASK_SECONDS, "asking of neighbours", self._ask_neighbours, at_once=False),
        ]
        for peer in self._network.peers():
            self._on_peer(peer.peer_id, True)

    async def close(self) -> None:
        for loop in self._running:
            await loop.close()
        for task in list(self._fetching.values()):
            await cancelled(task)

    def advertisements(self) -> list[Advertisement]:
        """All that is known of this node's channel, by peer id."""
        return [self._table[peer_id][0] for peer_id in self.offers.ids_of(self._device.channel)]

    def addresses_of(self, peer_id: str) -> tuple[str, ...]:
        """Where the provider says that it can be dialled."""
        found = self._table.get(peer_id)
        return found[0].addresses if found is not None else ()

    def other_clocks(self) -> dict[str, int]:
        """Providers that speak to us and whose word counts as expired, or as not valid yet: peer id -> seconds that
        their clock is behind ours, negative for ahead."""
        late = self._now() - int(CLOCK_KNOWN_SECONDS * 1_000_000)
        return {peer_id: behind for peer_id, (behind, at) in self._clocks.items() if at > late}

    def knows(self, peer_id: str) -> bool:
        """Whether it is among `advertisements`."""
        found = self._table.get(peer_id)
        return found is not None and found[0].offering.channel == self._device.channel

    def own(self) -> Advertisement:
        now = self._now()
        return Advertisement(
            peer_id=self._signer.peer_id,
            addresses=tuple(self._network.listen_addresses)[:32],
            sequence=now,
            expires_at=now + LIFETIME_SECONDS * 1_000_000,
            offering=self._device.offering(),
        )

    def stir(self) -> None:
        """Has the network told of this node as it is now."""
        self._stirred.set()

    def refresh(self) -> None:
        """Tells of this node again, and asks all connected peers for their tables."""
        self.stir()
        for peer in self._network.peers():
            self._on_peer(peer.peer_id, True)

    async def forget(self, peer_id: str) -> None:
        """Until it is heard of again. Raises NotFound."""
        if not self._drop(peer_id):
            raise NotFound(f"no compute provider {peer_id[:128]} is known")
        await self._save(peer_id, lambda provider: provider.lose("forgotten on request"))

    # --- what we tell ------------------------------------------------------------------------------
    async def _advertise(self) -> None:
        """On every change, a few times, then every minute. A node that never offered anything keeps silent;
        one that does no longer says so as often as one that changed."""
        left = ""
        repeats = -1
        while True:
            changed = self._stirred.is_set()
            self._stirred.clear()
            self._listen()
            repeats = 0 if changed else repeats + 1
            left = self._moved() or (left if repeats < len(REPEAT_SECONDS) else "")
            offers = self._device.state.onboarded
            if offers or self._offered:
                signed = self._sign(self.own())
                for channel in (left, self._channel) if left else (self._channel,):
                    await self._publish(channel, signed)
            self._offered = offers or (self._offered and repeats < len(REPEAT_SECONDS))
            pause = REPEAT_SECONDS[repeats] if repeats < len(REPEAT_SECONDS) else RENEW_SECONDS
            await self._until_stirred(pause * random.uniform(0.8, 1.0))  # noqa: S311  jitter
            await asyncio.sleep(SETTLE_SECONDS)

    def _moved(self) -> str:
        """The channel that this node was on, if it is on another now; then what is shown of the table changes."""
        left, self._channel = self._channel, self._device.channel
        if left == self._channel:
            return ""
        for peer_id in (*self.offers.ids_of(left), *self.offers.ids_of(self._channel)):
            advertisement = self._table[peer_id][0]
            if self._may_be_chosen(advertisement):
                self.offers.drop(peer_id)  # until it is recorded
            self._note(advertisement)
        for peer in self._network.peers():
            self._on_peer(peer.peer_id, True)
        return left

    async def _publish(self, channel: str, signed: SignedAdvertisement) -> None:
        try:
            await self._network.publish(AD_TOPIC + channel, encode(signed))
        except Unavailable as error:
            log.warning("advertisement not sent: %s", error, extra={"action": "advertisement_not_sent"})

    async def _until_stirred(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._stirred.wait()
        except TimeoutError:
            return

    def _listen(self) -> None:
        topic = AD_TOPIC + self._device.channel
        if topic not in self._topics:
            self._topics.add(topic)
            self._network.serve_gossip(topic, self._on_gossip)

    def _sign(self, advertisement: Advertisement) -> SignedAdvertisement:
        self._offered = self._offered or advertisement.offering.onboarded  # also to one who asked for it
        body = encode(advertisement)
        return SignedAdvertisement(body=body.decode(), signature=self._signer.sign(body).hex())

    # --- what we hear --------------------------------------------------------------------------------
    def _on_gossip(self, peer_id: str, body: bytes) -> None:
        self._gossiped[peer_id] = self._now()
        self._gossiped.move_to_end(peer_id)
        if len(self._gossiped) > MOST_PROVIDERS:
            self._gossiped.popitem(last=False)
        self._hear(peer_id, body)

    def _hear(self, peer_id: str, body: bytes) -> None:
        try:
            self._take(peer_id, read(body, SignedAdvertisement))
        except (DmsError, Unreadable) as error:
            level = logging.DEBUG if peer_id in self._told else logging.WARNING
            log.log(level, "advertisement from %s refused: %s", peer_id, error, extra={"action": "ad_refused"})
            self._told[peer_id] = None
            if len(self._told) > MOST_TOLD:
                self._told.popitem(last=False)

    def _take(self, teller: str, signed: SignedAdvertisement) -> None:
        """Newest sequence wins. Raises PeerMisbehaved on one that is not its provider's word."""
        advertisement = read_advertisement(signed)
        peer_id = advertisement.peer_id
        if peer_id == self._signer.peer_id:
            return
        known = self._table.get(peer_id)
        if known is not None and known[0].sequence >= advertisement.sequence:
            return
        try:
            check_advertisement(signed, advertisement, self._now(), self._signer.verify)
        except OtherClock as error:
            if teller == peer_id:  # what others pass on may only be old
                self._note_clock(peer_id, error.behind_seconds)
            raise
        if known is None and len(self._table) >= MOST_PROVIDERS:
            raise PeerMisbehaved(f"{peer_id} is not remembered: {MOST_PROVIDERS} providers are known already")
        if teller == peer_id:
            self._clocks.pop(peer_id, None)
        self._put(advertisement, signed)
        if known is None or known[0].addresses != advertisement.addresses:
            self._network.add_addresses(peer_id, advertisement.addresses)
        if self._is_news(advertisement, known[0] if known is not None else None):
            self._note(advertisement)

    def _put(self, advertisement: Advertisement, signed: SignedAdvertisement) -> None:
        peer_id = advertisement.peer_id
        if peer_id not in self._table:
            insort(self._ids, peer_id)
        if peer_id not in self._queued:
            self._queued.add(peer_id)
            heapq.heappush(self._expiries, (advertisement.expires_at, peer_id))
        self._table[peer_id] = (advertisement, signed)
        row = self.offers.get(peer_id)
        if not self._may_be_chosen(advertisement):
            self.offers.put(peer_id, advertisement.offering, advertisement.expires_at)
        elif row is not None:  # another offering counts once it is recorded
            self.offers.put(peer_id, row.offering, advertisement.expires_at)

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
            self.offers.put(peer_id, provider.offering, known[0].expires_at)
        elif self._may_be_chosen(known[0]):
            self.offers.drop(peer_id)

    def _drop(self, peer_id: str) -> bool:
        """Whether it was known. What is left of it in the heap is met when its time comes."""
        if self._table.pop(peer_id, None) is None:
            return False
        del self._ids[bisect_left(self._ids, peer_id)]
        self.offers.drop(peer_id)
        return True

    def _note_clock(self, peer_id: str, behind_seconds: int) -> None:
        self._clocks[peer_id] = (behind_seconds, self._now())
        self._clocks.move_to_end(peer_id)
        if len(self._clocks) > MOST_TOLD:
            self._clocks.popitem(last=False)

    def _note(self, advertisement: Advertisement) -> None:
        """Queued for the log. When the queue is full it is left out; its renewal is heard again."""
        if self._heard.full():
            self._drop(advertisement.peer_id)
            return
        self._heard.put_nowait(advertisement)

    async def _record(self) -> None:
        """Writes what changed into the log."""
        while True:
            heard = await self._heard.get()
            try:
                await self._record_one(heard)
            except Exception:  # one provider must not keep the others from being recorded
                log.exception("%s is not recorded", heard.peer_id, extra={"action": "ad_failed"})

    async def _record_one(self, advertisement: Advertisement) -> None:
        offering, addresses = advertisement.offering, advertisement.addresses
        here = offering.channel == self._device.channel
        await self._save(advertisement.peer_id, lambda p: p.advertise(offering, addresses) if here else p.withdraw())

    async def _expire(self) -> None:
        while (peer_id := self._next_expired()) is not None:
            self._drop(peer_id)
            await self._save(peer_id, lambda p: p.lose("its advertisement was not renewed"))
            await asyncio.sleep(0)

    def _next_expired(self) -> str | None:
        now = self._now()
        while self._expiries and self._expiries[0][0] <= now:
            _, peer_id = heapq.heappop(self._expiries)
            known = self._table.get(peer_id)
            if known is not None and known[0].expires_at > now:
                heapq.heappush(self._expiries, (known[0].expires_at, peer_id))
                continue
            self._queued.discard(peer_id)
            if known is not None:
                return peer_id
        return None

    async def _save(self, peer_id: str, change: Callable[[Provider], bool]) -> None:
        try:
            provider = self._log.load(Provider, peer_id) or Provider(peer_id)
            if change(provider):
                await self._log.save(provider)
            else:
                self._restate(peer_id, provider)  # after a restart the log knows what we only hear of again
        except DmsError as error:  # of this one: the others' news is recorded all the same
            log.warning("what changed of %s is not recorded: %s", peer_id, error)

    # --- the whole table, for who joins ----------------------------------------------------------------
    def _on_peer(self, peer_id: str, connected: bool) -> None:
        if connected:
            self._begin_fetch(peer_id, own=False)

    def _begin_fetch(self, peer_id: str, *, own: bool) -> None:
        if peer_id not in self._fetching:
            task = background(self._fetch(peer_id, own), f"advertisements of {peer_id}")
            self._fetching[peer_id] = task
            task.add_done_callback(lambda _: self._fetching.pop(peer_id, None))

    async def _ask_neighbours(self) -> None:
        """Gossip may never reach a neighbour, as when its stream failed while the connection was made. So those
        connected peers that have not been heard of in time are asked what they offer, a few each time."""
        late = self._now() - int(1.5 * RENEW_SECONDS * 1_000_000)
        connected = [peer.peer_id for peer in self._network.peers()]
        while self._gossiped and next(iter(self._gossiped.values())) < late:
            self._gossiped.popitem(last=False)
        silent = [peer_id for peer_id in connected if peer_id not in self._gossiped]
        for peer_id in random.sample(silent, min(ASKED_AT_ONCE, len(silent))):
            self._begin_fetch(peer_id, own=True)

    async def _fetch(self, peer_id: str, own: bool) -> None:
        after = ""
        try:
            while True:
                body = encode(SnapshotRequest(after=after, own=own))
                answer = await self._network.request(peer_id, AD_SNAPSHOT, body, SNAPSHOT_TIMEOUT_SECONDS)
                page = decode_answer(peer_id, answer, Snapshot)
                for number, signed in enumerate(page.advertisements):
                    self._hear(peer_id, encode(signed))
                    if number % CHECKED_AT_ONCE == 0:
                        await asyncio.sleep(0)
                if own or not page.more or not page.advertisements:
                    return
                last = read_advertisement(page.advertisements[-1]).peer_id
                if last <= after:
                    raise PeerMisbehaved(f"{peer_id} sends its table in circles")
                after = last
        except DmsError as error:
            # A peer that is no DMS, or is gone again: nothing to be mended here.
            log.debug("no advertisements from %s: %s", peer_id, error)

    async def _on_snapshot(self, _peer_id: str, body: bytes) -> bytes:
        request = decode_request(body, SnapshotRequest)
        own, start = self._signer.peer_id, bisect_right(self._ids, request.after)
        ids = [] if request.own else self._ids[start : start + SNAPSHOT_PAGE]
        left = 0 if request.own else len(self._ids) - start
        if self._device.state.onboarded and own > request.after:
            insort(ids, own)
            left += 1
        page: list[SignedAdvertisement] = []
        size = 0
        for peer_id in ids[:SNAPSHOT_PAGE]:
            signed = self._sign(self.own()) if peer_id == own else self._table[peer_id][1]
            size += 2 * len(signed.body)
            if page and size > 128 * 1024:
                break
            page.append(signed)
        return encode(Snapshot(advertisements=tuple(page), more=len(page) < left))
