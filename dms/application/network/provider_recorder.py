"""Records what providers offer, as far as those who tell of it have a budget for that.

What is over the budget is owed: it is recorded later, as it is then. So a provider that changes its word all the time
costs the log little, and nothing that lasts is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec import Struct

from dms.application.device.device import DeviceService
from dms.application.network.budgets import ADVERTISEMENTS, EVENT_BYTES, SNAPSHOTS, Budgets
from dms.application.ports.event_log import EventLog
from dms.domain.directory import Advertisement, Provider, SignedAdvertisement
from dms.errors import DmsError

log = logging.getLogger(__name__)

MOST_WAITING = 10_000  # changes on their way to the log
OWED_AT_ONCE = 200


class Entry(Struct, frozen=True, gc=False):
    """What one provider last said. ends_at: µs of this machine's boot clock, so that a step of the wall clock, by which
    it was found valid when it came, ends no entry, and keeps none. teller: the peer that it was heard from."""

    advertisement: Advertisement
    signed: SignedAdvertisement
    ends_at: int
    teller: str


class ProviderRecorder:
    def __init__(
        self,
        event_log: EventLog,
        device: DeviceService,
        budgets: Budgets,
        known: Callable[[str], Entry | None],
        restate: Callable[[str, Provider], None],
    ) -> None:
        """known: what a peer last said. restate: gets a provider as the log has it, when nothing is to be changed."""
        self._log, self._device, self._budgets, self._known, self._restate = event_log, device, budgets, known, restate
        self._waiting: asyncio.Queue[Advertisement] = asyncio.Queue(MOST_WAITING)
        self._owed: dict[str, None] = {}  # peers, in the order in which they are looked at

    def note(self, advertisement: Advertisement) -> bool:
        """Whether it is queued for the log. When the queue is full it is left out; its renewal is heard again."""
        if self._waiting.full():
            return False
        self._waiting.put_nowait(advertisement)
        return True

    def forget(self, peer_id: str) -> None:
        """Nothing is known of it any more."""
        self._owed.pop(peer_id, None)

    async def run(self) -> None:
        """For ever."""
        while True:
            heard = await self._waiting.get()
            try:
                await self._record(heard)
            except Exception:  # one provider must not keep the others from being recorded
                log.exception("%s is not recorded", heard.peer_id, extra={"action": "ad_failed"})

    async def record_owed(self) -> None:
        """Those that we know first, the others in turn."""
        known = [peer_id for peer_id in self._owed if self._budgets.is_known(peer_id)]
        for peer_id in list(dict.fromkeys([*known, *self._owed]))[:OWED_AT_ONCE]:
            self._owed.pop(peer_id, None)
            entry = self._known(peer_id)
            if entry is not None:
                await self._record(entry.advertisement)

    async def save(
        self,
        peer_id: str,
        change: Callable[[Provider], bool],
        may_change: Callable[[Provider], bool] = lambda _: True,
    ) -> None:
        try:
            provider = self._log.load(Provider, peer_id) or Provider(peer_id)
            if not may_change(provider):
                return
            if change(provider):
                await self._log.save(provider)
            else:
                self._restate(peer_id, provider)  # after a restart the log knows what we only hear of again
        except DmsError as error:  # of this one: the others' news is recorded all the same
            log.warning("what changed of %s is not recorded: %s", peer_id, error)

    async def _record(self, advertisement: Advertisement) -> None:
        peer_id, offering, addresses = advertisement.peer_id, advertisement.offering, advertisement.addresses
        if self._device.denies(peer_id):  # since it was heard
            return
        if offering.channel != self._device.channel:
            await self.save(peer_id, lambda provider: provider.withdraw())
            return
        await self.save(
            peer_id,
            lambda provider: provider.advertise(offering, addresses),
            lambda provider: not provider.would_advertise(offering, addresses) or self._has_budget(peer_id),
        )

    def _has_budget(self, peer_id: str) -> bool:
        """Who told of it pays. Else it is owed."""
        entry = self._known(peer_id)
        if entry is None:
            return False
        kind = ADVERTISEMENTS if entry.teller == peer_id else SNAPSHOTS
        if self._budgets.allows(kind, entry.teller, len(entry.signed.body) + EVENT_BYTES):
            self._owed.pop(peer_id, None)
            return True
        self._owed[peer_id] = None
        return False
