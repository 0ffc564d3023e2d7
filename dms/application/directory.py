"""The table of advertisements: what this node tells the network of itself, and what it hears of others.

Every node keeps the whole table in memory and matches locally. News comes by gossip; who joins asks
a neighbour for its table. Each entry is signed by its own provider, so any peer may pass it on.

A channel is a network of its own: only its providers are recorded, shown and matched. What is heard of
other channels (in snapshots, or from a provider that moves away) is kept only to be passed on, so that
two nodes of one channel find each other also through a neighbour that is on another.
"""

from __future__ import annotations

import asyncio
import logging
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator

import msgspec

from dms.application.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.messages import (
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
from dms.domain.decoding import UNREADABLE
from dms.domain.directory import (
    LIFETIME_SECONDS,
    Advertisement,
    Offering,
    Provider,
    SignedAdvertisement,
    open_advertisement,
)
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

_signed_decoder = msgspec.json.Decoder(SignedAdvertisement)


class Directory:
    """Own advertisement out, others' in. `offerings()` is what matching reads."""

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
        self._stirred = asyncio.Event()
        self._heard: asyncio.Queue[Advertisement] = asyncio.Queue(maxsize=10_000)
        self._loops = loops or Loops()
        self._running: list[Loop] = []
        self._gossiped: dict[str, int] = {}  # peer id -> Unix µs when its gossip last came
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._topics: set[str] = set()
        self._channel = ""

    def serve(self) -> None:
        self._network.serve_request(AD_SNAPSHOT, self._on_snapshot)
        self._network.on_peer(self._on_peer)
        self._device.on_change(self._stirred.set)

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

    def offerings(self) -> Iterator[tuple[str, Offering]]:
        """(peer id, offering) of all other providers whose word still holds, of any channel: matching
        refuses those of others, and can say so."""
        now = self._now()
        return ((p, ad.offering) for p, (ad, _) in self._table.items() if ad.expires_at > now)

    def advertisements(self) -> list[Advertisement]:
        """All that is known of this node's channel, by peer id."""
        found = (self._table[peer_id][0] for peer_id in sorted(self._table))
        return [ad for ad in found if ad.offering.channel == self._device.channel]

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

    def refresh(self) -> None:
        """Tells of this node again, and asks all connected peers for their tables."""
        self._stirred.set()
        for peer in self._network.peers():
            self._on_peer(peer.peer_id, True)

    async def forget(self, peer_id: str) -> None:
        """Until it is heard of again. Raises NotFound."""
        if self._table.pop(peer_id, None) is None:
            raise NotFound(f"no compute provider {peer_id[:128]} is known")
        await self._save(peer_id, lambda provider: provider.lose("forgotten on request"))

    # --- what we tell ------------------------------------------------------------------------------
    async def _advertise(self) -> None:
        """On every change, a few times, then every minute. A node that never offered anything keeps silent;
        one that does no longer says so as often as one that changed."""
        offered = False
        left = ""
        repeats = -1
        while True:
            changed = self._stirred.is_set()
            self._stirred.clear()
            self._listen()
            repeats = 0 if changed else repeats + 1
            left = self._moved() or (left if repeats < len(REPEAT_SECONDS) else "")
            offers = self._device.state.onboarded
            if offers or offered:
                signed = self._sign(self.own())
                for channel in (left, self._channel) if left else (self._channel,):
                    await self._publish(channel, signed)
            offered = offers or (offered and repeats < len(REPEAT_SECONDS))
            pause = REPEAT_SECONDS[repeats] if repeats < len(REPEAT_SECONDS) else RENEW_SECONDS
            await self._until_stirred(pause * random.uniform(0.8, 1.0))  # noqa: S311  jitter
            await asyncio.sleep(SETTLE_SECONDS)

    def _moved(self) -> str:
        """The channel that this node was on, if it is on another now; then what is shown of the table changes."""
        left, self._channel = self._channel, self._device.channel
        if left == self._channel:
            return ""
        for advertisement, _ in list(self._table.values()):
            if advertisement.offering.channel in (left, self._channel):
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
        body = encode(advertisement)
        return SignedAdvertisement(body=body.decode(), signature=self._signer.sign(body).hex())

    # --- what we hear --------------------------------------------------------------------------------
    def _on_gossip(self, peer_id: str, body: bytes) -> None:
        if len(self._gossiped) < MOST_PROVIDERS:
            self._gossiped[peer_id] = self._now()
        self._hear(peer_id, body)

    def _hear(self, peer_id: str, body: bytes) -> None:
        try:
            self._take(_signed_decoder.decode(body))
        except (DmsError, *UNREADABLE) as error:
            log.warning("advertisement from %s refused: %s", peer_id, error, extra={"action": "ad_refused"})

    def _take(self, signed: SignedAdvertisement) -> None:
        """Newest sequence wins. Raises PeerMisbehaved on one that is not its provider's word."""
        advertisement = open_advertisement(signed, self._now(), self._signer.verify)
        peer_id = advertisement.peer_id
        if peer_id == self._signer.peer_id:
            return
        known = self._table.get(peer_id)
        if known is not None and known[0].sequence >= advertisement.sequence:
            return
        if known is None and len(self._table) >= MOST_PROVIDERS:
            raise PeerMisbehaved(f"{peer_id} is not remembered: {MOST_PROVIDERS} providers are known already")
        self._table[peer_id] = (advertisement, signed)
        self._network.add_addresses(peer_id, advertisement.addresses)
        if known is None or known[0].offering != advertisement.offering:
            self._note(advertisement)

    def _note(self, advertisement: Advertisement) -> None:
        """Queued for the log. When the queue is full it is left out; its renewal is heard again."""
        if self._heard.full():
            self._table.pop(advertisement.peer_id, None)
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
        now = self._now()
        for peer_id in [p for p, (ad, _) in self._table.items() if ad.expires_at <= now]:
            del self._table[peer_id]
            await self._save(peer_id, lambda p: p.lose("its advertisement was not renewed"))

    async def _save(self, peer_id: str, change: Callable[[Provider], bool]) -> None:
        provider = self._log.load(Provider, peer_id) or Provider(peer_id)
        if change(provider):
            try:
                await self._log.save(provider)
            except Unavailable as error:
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
        self._gossiped = {peer_id: at for peer_id, at in self._gossiped.items() if at >= late}
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
                for signed in page.advertisements:
                    self._hear(peer_id, encode(signed))
                if own or not page.more or not page.advertisements:
                    return
                last = msgspec.json.decode(page.advertisements[-1].body, type=Advertisement).peer_id
                if last <= after:
                    raise PeerMisbehaved(f"{peer_id} sends its table in circles")
                after = last
        except (DmsError, *UNREADABLE) as error:
            # A peer that is no DMS, or is gone again: nothing to be mended here.
            log.debug("no advertisements from %s: %s", peer_id, error)

    async def _on_snapshot(self, _peer_id: str, body: bytes) -> bytes:
        request = decode_request(body, SnapshotRequest)
        entries = {} if request.own else {peer_id: signed for peer_id, (_, signed) in self._table.items()}
        if self._device.state.onboarded:
            entries[self._signer.peer_id] = self._sign(self.own())
        ids = sorted(entries)
        start = bisect_right(ids, request.after)
        page: list[SignedAdvertisement] = []
        size = 0
        for peer_id in ids[start : start + SNAPSHOT_PAGE]:
            size += 2 * len(entries[peer_id].body)
            if page and size > 128 * 1024:
                break
            page.append(entries[peer_id])
        return encode(Snapshot(advertisements=tuple(page), more=start + len(page) < len(ids)))
