"""How many connections there may be: of one address, of one user of this machine, of all but the operator, of all.
Each takes a descriptor, and the log, the container engine and peers need some too."""

from __future__ import annotations

import logging
import resource
import time
from collections import Counter
from collections.abc import Callable

from dms.domain.origin import is_loopback

log = logging.getLogger(__name__)

MOST = 16_384
RESERVED = 4_096  # descriptors for all else; of few, the half
OTHERS_SHARE = 0.75  # of all: beyond it only the operator's are taken
MOST_OF_AN_ADDRESS = 2_000  # off loopback
MOST_OF_A_USER = 256  # of this machine, where it is not the operator
LOG_SECONDS = 60.0


def most_connections() -> int:
    """By what this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft - min(RESERVED, soft // 2))


class ConnectionCounts:
    def __init__(self, is_operator: Callable[[int], bool], most: int, *, proxied: bool = False) -> None:
        """is_operator: of a user id, as far as it is known. proxied: a user of this machine is the proxy, behind which
        are all others."""
        self._is_operator, self._most = is_operator, most
        self._most_of_others = int(most * OTHERS_SHARE)
        self._most_of_a_user = self._most_of_others * 2 // 3 if proxied else min(MOST_OF_A_USER, most // 4)
        self._of = Counter[str]()  # by party; the operator's is empty
        self._all = 0
        self._told_at = float("-inf")

    def __len__(self) -> int:
        return self._all

    def enter(self, origin: str, uid: int | None) -> str | None:
        """The party that one more connection counts for, to be given to `leave` at its end; None: there may be none."""
        local = is_loopback(origin)
        if local and uid is not None and self._is_operator(uid):
            party, free = "", len(self) < self._most
        else:
            party = f"user {uid}" if local else origin or "unknown"
            most = self._most_of_a_user if local else MOST_OF_AN_ADDRESS
            free = self._of[party] < most and len(self) - self._of[""] < self._most_of_others and len(self) < self._most
        if not free:
            self._tell(party)
            return None
        self._of[party] += 1
        self._all += 1
        return party

    def leave(self, party: str) -> None:
        self._of[party] -= 1
        self._all -= 1
        if not self._of[party]:
            del self._of[party]

    def _tell(self, party: str) -> None:
        """Once a minute: who floods must not fill the log."""
        if time.monotonic() - self._told_at < LOG_SECONDS:
            return
        self._told_at = time.monotonic()
        log.warning(
            "a connection of %s is closed at once: it has %d, and there are %d of %d",
            party or "the operator", self._of[party], len(self), self._most, extra={"action": "too_many_connections"},
        )  # fmt: skip
