"""Places that are kept for jobs which are quoted and not paid yet.

The rule: a hold keeps a place from other holds, and from nobody who pays. A paid job that fits beside the other jobs
is taken, and of the holds that do not fit beside it any more the newest end. So a stranger's question, which costs it
nothing, never keeps a job away. How many are held at once, for how long, and how often, is bounded for each peer and
for all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from dms.application.device.device import DeviceService
from dms.application.loops import said
from dms.application.network.budgets import HOLDS, Budgets
from dms.application.ports.event_log import EventLog
from dms.application.reactors import News, Reactor, still_due
from dms.domain.hold import EXPIRED, PAID, YIELDED, Hold
from dms.domain.reservations import Held
from dms.domain.resources import Resources

log = logging.getLogger(__name__)

MOST_HELD, MOST_HELD_OF_A_PEER = 32, 8  # at once
MOST_HELD_OF_STRANGERS = 24  # of all of them: the others are for peers that we know
LONGEST_SECONDS = 900  # whatever is asked
MICROSECONDS = 1_000_000


class Holds:
    """Kept by the log, with each decision and with each one that could not be written: see `EventLog.index`."""

    def __init__(self, log: EventLog, device: DeviceService, now: Callable[[], int], budgets: Budgets) -> None:
        """now: Unix time in microseconds."""
        self._log, self._device, self._now, self._budgets = log, device, now, budgets
        self._askers: dict[str, str] = {}  # job id -> who asked, in the order placed
        log.index(Hold, self._restate)

    def take_up(self, job_ids: Iterable[str]) -> None:
        """Those that were held when the log was last written."""
        for job_id in sorted(job_ids):
            self._restate(job_id, self._log.load(Hold, job_id))

    def of(self, job_id: str, peer_id: str) -> Hold | None:
        """What is held for that peer's job."""
        hold = self._log.load(Hold, job_id)
        return hold if hold is not None and hold.held and hold.asker == self._log.pseudonym(peer_id) else None

    def seconds_left(self, hold: Hold) -> int:
        return max(0, min(LONGEST_SECONDS, math.ceil((hold.expires_at - self._now()) / MICROSECONDS)))

    def objection(self, peer_id: str) -> str:
        """Why nothing more is held for that peer just now; empty when there is a place for one more, which is counted
        then."""
        asker = self._log.pseudonym(peer_id)
        most = MOST_HELD if self._budgets.is_known(peer_id) else min(MOST_HELD, MOST_HELD_OF_STRANGERS)
        if len(self._askers) >= most or list(self._askers.values()).count(asker) >= MOST_HELD_OF_A_PEER:
            return "it keeps places for as many unpaid jobs as it may"
        return "" if self._budgets.allows(HOLDS, peer_id) else "places were asked for too often of late"

    def place(self, job_id: str, peer_id: str, held: Held, seconds: int) -> Hold:
        """To be saved at once."""
        hold = self._log.load(Hold, job_id) or Hold(job_id)
        expires_at = self._now() + min(seconds, LONGEST_SECONDS) * MICROSECONDS
        asker = self._log.pseudonym(peer_id)
        hold.place(asker, held.resources, held.gpu_uuids, expires_at, gpus_shared=held.shared)
        return hold

    def taken(self, job_id: str, peer_id: str) -> list[Hold]:
        """The hold of a job that is decided now, ended: to be saved with the decision."""
        hold = self.of(job_id, peer_id)
        return [hold] if hold is not None and hold.end(PAID) else []

    def yielding(self, job_id: str, granted: Held) -> list[Hold]:
        """The other holds that do not fit beside a job that is granted now, ended: to be saved with it."""
        found = [hold for key in self._askers if key != job_id and (hold := self._log.load(Hold, key)) is not None]
        left = [hold for hold in found if not _same_gpu(hold, granted)]
        free = self._device.free() - granted.resources
        while left and _short(free, left):
            left.pop()  # the newest
        return [hold for hold in found if hold not in left and hold.end(YIELDED)]

    def _restate(self, job_id: str, hold: Hold | None) -> None:
        if hold is None or not hold.held:
            self._askers.pop(job_id, None)
            self._device.holds.release(job_id)
            return
        self._askers.setdefault(job_id, hold.asker)
        self._device.holds.hold(job_id, hold.reserved, hold.gpu_uuids, shared=hold.gpus_shared)


def _same_gpu(hold: Hold, granted: Held) -> bool:
    """Whether they can't both have their GPUs."""
    return not set(hold.gpu_uuids).isdisjoint(granted.gpu_uuids) and not (hold.gpus_shared and granted.shared)


def _short(free: Resources, holds: Sequence[Hold]) -> bool:
    """Whether the machine has not enough for all of them. GPUs count card by card, not as a sum."""
    needed = sum((hold.reserved for hold in holds), start=Resources())
    return bool(free.shortfalls(replace(needed, vram_mb=min(needed.vram_mb, free.vram_mb))))


class ExpireHolds(Reactor[Hold]):
    name = "expiry of holds"
    kind = Hold

    def __init__(self, log: EventLog, now: Callable[[], int]) -> None:
        """now: Unix time in microseconds."""
        self._log, self._now = log, now

    def due(self, aggregate: Hold) -> bool:
        return aggregate.held

    async def react(self, aggregate: Hold, news: News) -> None:
        """The wall clock tells only what is left at the beginning: a step of it later on ends no hold."""
        left = min(max(0.0, (aggregate.expires_at - self._now()) / MICROSECONDS), LONGEST_SECONDS)
        if await news.rest(left, lambda: still_due(self._log, self, aggregate.key)):
            await self._end(aggregate.key)

    async def give_up(self, aggregate: Hold, error: Exception) -> None:
        log.error("hold %s could not be kept to its time: %s", aggregate.key, said(error))
        await self._end(aggregate.key)

    async def _end(self, job_id: str) -> None:
        hold = self._log.load(Hold, job_id)
        if hold is not None and hold.end(EXPIRED):
            await self._log.save(hold)
