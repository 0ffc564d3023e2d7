"""What peers can make us keep, and how fast: one table of budgets, and the token buckets that hold it.

Each kind has four buckets. A peer has its own, so that one that floods takes nothing from another. All strangers
together have one, since fresh identities cost nothing. All peers together have one, larger than that of strangers, so
that those we know are served while strangers flood. What is refused is counted here, and not recorded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from msgspec import Struct

from dms.errors import Unavailable
from dms.recent import Recent

log = logging.getLogger(__name__)

KIB, MIB = 1024, 1024 * 1024
MOST_PEERS = 4096  # whose buckets are remembered, of known ones and of strangers each
TOLD_SECONDS = 60.0  # between two lines in this program's log about what is refused
EVENT_BYTES = 1024  # what an event takes beside what a peer wrote into it

# The kinds, as they are shown.
DEPLOYMENTS = "deployment requests"
QUESTIONS = "questions"
HOLDS = "holds"
IMAGE_LOOK_UPS = "look-ups of images"
ADVERTISEMENTS = "advertisements"
SNAPSHOTS = "advertisements passed on"
RECORDS = "provider records"
FILE_OFFERS = "file offers"


class Rate(Struct, frozen=True):
    """burst: at once, after a long rest; per_second: what comes back."""

    burst: float
    per_second: float


class Budget(Struct, frozen=True, kw_only=True):
    """unit: of what is counted. known, stranger: of one such peer; strangers: of all of them; total: of all peers."""

    unit: str
    known: Rate
    stranger: Rate
    strangers: Rate
    total: Rate


_HOUR = 1 / 3600
_NO_LIMIT = Rate(float("inf"), 0)

BUDGETS: Mapping[str, Budget] = {
    DEPLOYMENTS: Budget(
        unit="bytes",
        known=Rate(4 * MIB, 64 * KIB),
        stranger=Rate(512 * KIB, 2 * KIB),
        strangers=Rate(1 * MIB, 4 * KIB),
        total=Rate(16 * MIB, 256 * KIB),
    ),
    QUESTIONS: Budget(
        unit="number", known=Rate(240, 4), stranger=Rate(60, 1), strangers=Rate(240, 4), total=Rate(1200, 20)
    ),
    HOLDS: Budget(
        unit="number",
        known=Rate(60, 360 * _HOUR),
        stranger=Rate(20, 120 * _HOUR),
        strangers=Rate(60, 360 * _HOUR),
        total=Rate(240, 1440 * _HOUR),
    ),
    IMAGE_LOOK_UPS: Budget(  # at registries. Docker Hub gives a machine 100 in 6 h, which its own pulls need too
        unit="number",
        known=_NO_LIMIT,
        stranger=Rate(10, 4 * _HOUR),
        strangers=Rate(20, 8 * _HOUR),
        total=_NO_LIMIT,
    ),
    ADVERTISEMENTS: Budget(
        unit="bytes",
        known=Rate(256 * KIB, 4 * KIB),
        stranger=Rate(64 * KIB, 512),
        strangers=Rate(8 * MIB, 8 * KIB),
        total=Rate(32 * MIB, 64 * KIB),
    ),
    SNAPSHOTS: Budget(  # of the one who passes them on; who joins a large network hears of all of it at once
        unit="bytes",
        known=Rate(64 * MIB, 64 * KIB),
        stranger=Rate(4 * MIB, 2 * KIB),
        strangers=Rate(16 * MIB, 8 * KIB),
        total=Rate(128 * MIB, 128 * KIB),
    ),
    RECORDS: Budget(  # of one job, whoever runs it: our own jobs are as many as we ask for
        unit="bytes",
        known=Rate(1 * MIB, 1 * KIB),
        stranger=Rate(1 * MIB, 1 * KIB),
        strangers=_NO_LIMIT,
        total=_NO_LIMIT,
    ),
    FILE_OFFERS: Budget(
        unit="number",
        known=Rate(60, 60 * _HOUR),
        stranger=Rate(20, 20 * _HOUR),
        strangers=Rate(60, 60 * _HOUR),
        total=Rate(600, 600 * _HOUR),
    ),
}


class TokenBucket:
    """now: seconds of a clock that takes no steps."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._tokens, self._at = rate, rate.burst, now

    def missing_seconds(self, cost: float, now: float) -> float:
        """Until so much is there; 0 when it is, infinite when it never is."""
        if cost > self._rate.burst:
            return float("inf")
        self._tokens = min(self._rate.burst, self._tokens + (now - self._at) * self._rate.per_second)
        self._at = now
        missing = cost - self._tokens
        if missing <= 0:
            return 0.0
        return missing / self._rate.per_second if self._rate.per_second else float("inf")

    def take(self, cost: float) -> None:
        """What `missing_seconds` has just said to be there."""
        self._tokens -= cost


class Budgets:
    """In memory: a restart begins with full buckets."""

    def __init__(
        self,
        is_known: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
        budgets: Mapping[str, Budget] = BUDGETS,
    ) -> None:
        """is_known: whether a peer, by its id, is no stranger. clock: seconds, takes no steps."""
        self._is_known, self._clock, self._budgets = is_known, clock, budgets
        now = clock()
        self._strangers = {kind: TokenBucket(budget.strangers, now) for kind, budget in budgets.items()}
        self._total = {kind: TokenBucket(budget.total, now) for kind, budget in budgets.items()}
        # Strangers push none but strangers out. Who is forgotten is held by the bucket of all of them.
        self._of_peer = {known: Recent[tuple[str, str], TokenBucket](MOST_PEERS) for known in (True, False)}
        self.refused: Counter[tuple[str, str]] = Counter()  # (kind, "known" or "stranger") -> how often
        self._told_at = float("-inf")
        self._untold = 0

    def is_known(self, peer_id: str) -> bool:
        return self._is_known(peer_id)

    def allows(self, kind: str, peer_id: str, cost: float = 1.0, share: str = "") -> bool:
        """Takes the cost from the budgets if all of them have it; else counts a refusal. share: what of the peer has
        a budget of its own, where that is not the peer as a whole."""
        return not self._missing_seconds(kind, peer_id, cost, share, refuse=True)

    def check(self, kind: str, peer_id: str, cost: float = 1.0) -> None:
        """As `allows`. Raises Unavailable, which says when to ask again."""
        if missing := self._missing_seconds(kind, peer_id, cost, "", refuse=True):
            when = f"in {missing:.0f} s" if missing < 3600 else "later"
            raise Unavailable(f"this node takes no more {kind} of you just now; try again {when}")

    async def wait(self, kind: str, peer_id: str, cost: float, share: str = "") -> None:
        """Until the budgets have it, which is then taken: who is read more slowly sends more slowly."""
        cost = min(cost, self._budgets[kind].stranger.burst)
        while True:
            missing = self._missing_seconds(kind, peer_id, cost, share, refuse=False)
            if not missing:
                return
            await asyncio.sleep(min(missing, TOLD_SECONDS))

    def _missing_seconds(self, kind: str, peer_id: str, cost: float, share: str, *, refuse: bool) -> float:
        known, now = self._is_known(peer_id), self._clock()
        buckets = [self._bucket_of(kind, share or peer_id, known, now), self._total[kind]]
        if not known:
            buckets.append(self._strangers[kind])
        missing = max(bucket.missing_seconds(cost, now) for bucket in buckets)
        if not missing:
            for bucket in buckets:
                bucket.take(cost)
        elif refuse:
            self._count(kind, "known" if known else "stranger", now)
        return missing

    def _bucket_of(self, kind: str, peer: str, known: bool, now: float) -> TokenBucket:
        of_peer, budget = self._of_peer[known], self._budgets[kind]
        bucket = of_peer.get((kind, peer))
        if bucket is None:
            bucket = of_peer[kind, peer] = TokenBucket(budget.known if known else budget.stranger, now)
        return bucket

    def _count(self, kind: str, who: str, now: float) -> None:
        self.refused[kind, who] += 1
        self._untold += 1
        if now - self._told_at >= TOLD_SECONDS:
            log.warning(
                "%d times a peer asked for more than its budget, the last time for %s (%s)",
                self._untold, kind, who, extra={"action": "over_budget"},
            )  # fmt: skip
            self._told_at, self._untold = now, 0
