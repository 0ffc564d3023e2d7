"""What this node tells the network of itself: made anew, signed, published, renewed, and withdrawn.

It is told on each change, a few times, since gossip loses what is said before its mesh has formed; then every minute.
A node that never offered anything keeps silent; one that does no longer says so as often as one that changed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from dms.application.device.device import DeviceService
from dms.application.loops import Loop, Loops
from dms.application.network.messages import AD_TOPIC, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.domain.directory import LIFETIME_SECONDS, Advertisement, SignedAdvertisement
from dms.errors import Unavailable

logger = logging.getLogger(__name__)

RENEW_SECONDS = 60.0
REPEAT_SECONDS = (1.0, 4.0, 15.0)  # after a change
SETTLE_SECONDS = 0.05  # changes that come together are told together


class OwnAdvertisement:
    def __init__(
        self,
        log: EventLog,
        device: DeviceService,
        network: PeerNetwork,
        signer: Signer,
        now: Callable[[], int],
        loops: Loops | None = None,
    ) -> None:
        """now: Unix time in microseconds."""
        self._log, self._device, self._network, self._signer, self._now = log, device, network, signer, now
        self._loops = loops or Loops()
        self._stirred = asyncio.Event()
        self._loop: Loop | None = None
        self._channel = ""
        self._sequence = 0
        self._offered = False  # whether anybody was told lately that something is offered here

    async def start(self) -> None:
        self._channel = self._device.channel
        self._loop = self._loops.start("own advertisement", self._advertise)

    async def close(self) -> None:
        if self._loop is not None:
            await self._loop.close()

    @property
    def peer_id(self) -> str:
        return self._signer.peer_id

    @property
    def offers(self) -> bool:
        """Whether there is something to tell."""
        return self._device.state.onboarded

    async def made(self) -> Advertisement:
        """As this node is now; of what is decided nobody is told before it is on the disk."""
        while True:
            made = self._make()
            if await self._log.written():
                return made

    def _make(self) -> Advertisement:
        """Newer than any made before, also after the clock was set back."""
        now = self._now()
        self._sequence = max(self._sequence + 1, now)
        return Advertisement(
            peer_id=self._signer.peer_id,
            addresses=tuple(self._network.listen_addresses)[:32],
            sequence=self._sequence,
            expires_at=now + LIFETIME_SECONDS * 1_000_000,
            offering=self._device.offering(),
        )

    async def signed(self) -> SignedAdvertisement:
        """For somebody to be told."""
        made = await self.made()
        self._offered = self._offered or made.offering.onboarded
        body = encode(made)
        return SignedAdvertisement(body=body.decode(), signature=self._signer.sign(body).hex())

    def stir(self) -> None:
        """Has the network told of this node as it is now; again is harmless."""
        self._stirred.set()

    async def _advertise(self) -> None:
        left = ""
        repeats = -1
        while True:
            changed = self._stirred.is_set()
            self._stirred.clear()
            repeats = 0 if changed else repeats + 1
            left = self._moved() or (left if repeats < len(REPEAT_SECONDS) else "")
            if self.offers or self._offered:
                await self._publish({left, self._channel} - {""})
            self._offered = self.offers or (self._offered and repeats < len(REPEAT_SECONDS))
            pause = REPEAT_SECONDS[repeats] if repeats < len(REPEAT_SECONDS) else RENEW_SECONDS
            await self._until_stirred(pause * random.uniform(0.8, 1.0))  # noqa: S311  jitter
            await asyncio.sleep(SETTLE_SECONDS)

    def _moved(self) -> str:
        """The channel that this node was on, if it is on another now: those there are told as well."""
        left, self._channel = self._channel, self._device.channel
        return "" if left == self._channel else left

    async def _publish(self, channels: set[str]) -> None:
        body = encode(await self.signed())
        for channel in sorted(channels):
            try:
                await self._network.publish(AD_TOPIC + channel, body)
            except Unavailable as error:
                logger.warning("advertisement not sent: %s", error, extra={"action": "advertisement_not_sent"})

    async def _until_stirred(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._stirred.wait()
        except TimeoutError:
            return
