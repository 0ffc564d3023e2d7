"""How much memory the table of advertisements may take, and whose words may take how much of it.

What a provider says of itself has its own part. What a peer passes on of others counts as that peer's, until they are
heard themselves: anybody can make up providers, as many as it likes, but nobody can speak for one that is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

MIB = 1024 * 1024
MOST_AD_BYTES = 16 * 1024  # of one advertisement: 64 GPUs and 32 addresses take less
MOST_OWN_WORDS = 128 * MIB  # of all providers that speak for themselves
MOST_OF_KNOWN = 128 * MIB  # passed on by peers that we know
MOST_OF_STRANGERS, MOST_OF_A_STRANGER = 32 * MIB, 8 * MIB  # passed on by others
_BESIDE = 512  # bytes of an entry beside its text, roughly

OWN, KNOWN, STRANGERS = "own", "known", "strangers"


class AdSpace:
    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._held: dict[str, tuple[str, str, int]] = {}  # peer -> (part, who told, bytes)
        self._parts, self._tellers = Counter[str](), Counter[str]()

    @property
    def held_bytes(self) -> int:
        return self._parts.total()

    def take(self, peer_id: str, teller: str, size: int) -> bool:
        """Whether there is room for what the teller says of the peer; it takes the place of what was held of it."""
        cost, part = size + _BESIDE, self._part_of(peer_id, teller)
        before = self._held.get(peer_id)
        self.drop(peer_id)
        if self._has_room(part, teller, cost):
            self._hold(peer_id, part, teller, cost)
            return True
        if before is not None:
            self._hold(peer_id, *before)
        return False

    def drop(self, peer_id: str) -> None:
        held = self._held.pop(peer_id, None)
        if held is None:
            return
        part, teller, cost = held
        self._parts[part] -= cost
        self._tellers[teller] -= cost
        if self._tellers[teller] <= 0:
            del self._tellers[teller]

    def _part_of(self, peer_id: str, teller: str) -> str:
        if peer_id == teller:
            return OWN
        return KNOWN if self._is_known(teller) else STRANGERS

    def _has_room(self, part: str, teller: str, cost: int) -> bool:
        most = {OWN: MOST_OWN_WORDS, KNOWN: MOST_OF_KNOWN, STRANGERS: MOST_OF_STRANGERS}[part]
        if self._parts[part] + cost > most:
            return False
        return part != STRANGERS or self._tellers[teller] + cost <= MOST_OF_A_STRANGER

    def _hold(self, peer_id: str, part: str, teller: str, cost: int) -> None:
        self._held[peer_id] = part, teller, cost
        self._parts[part] += cost
        self._tellers[teller] += cost
