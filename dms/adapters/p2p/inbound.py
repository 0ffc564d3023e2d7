"""How many connections others may have to us, counted before a byte of them is read: by address, since who they are is
known only after the handshake, which costs us more than them."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from dms.domain.origin import is_loopback


class InboundLimits(Struct, frozen=True, kw_only=True):
    """Of one address (of IPv6: one /64): open, and with an unfinished handshake. All programs of this machine have
    one address, and so have all peers behind a proxy or tunnel that ends here: *_of_loopback. handshakes: of all."""

    of_address: int = 64
    handshakes_of_address: int = 16
    of_loopback: int = 512
    handshakes_of_loopback: int = 128
    handshakes: int = 256


class InboundGuard:
    def __init__(self, limits: InboundLimits | None = None) -> None:
        self._limits = limits or InboundLimits()
        self._open, self._shaking = Counter[str](), Counter[str]()
        self.refused = 0

    def enter(self, origin: str) -> bool:
        """Whether a connection from there may begin its handshake. When it may: `agreed` once, `leave` at the end."""
        limits, loopback = self._limits, is_loopback(origin)
        most = limits.of_loopback if loopback else limits.of_address
        most_shaking = limits.handshakes_of_loopback if loopback else limits.handshakes_of_address
        full = self._open[origin] >= most or self._shaking[origin] >= most_shaking
        if full or self._shaking.total() >= limits.handshakes:
            self.refused += 1
            return False
        self._open[origin] += 1
        self._shaking[origin] += 1
        return True

    def agreed(self, origin: str) -> None:
        """Its handshake is over, however it ended."""
        _less(self._shaking, origin)

    def leave(self, origin: str) -> None:
        _less(self._open, origin)


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
