"""Connections of others, counted by address."""

from __future__ import annotations

import pytest

from dms.adapters.p2p.inbound import InboundGuard, InboundLimits
from dms.domain.origin import origin_of

LIMITS = InboundLimits(of_address=4, handshakes_of_address=2, of_loopback=6, handshakes_of_loopback=6, handshakes=8)


def test_an_address_has_so_many_handshakes_and_so_many_connections() -> None:
    guard = InboundGuard(LIMITS)
    assert [guard.enter("1.2.3.4") for _ in range(3)] == [True, True, False]
    for _ in range(2):
        guard.agreed("1.2.3.4")
    assert [guard.enter("1.2.3.4") for _ in range(3)] == [True, True, False]
    for _ in range(2):
        guard.agreed("1.2.3.4")
    assert not guard.enter("1.2.3.4"), "four are open"
    assert guard.enter("1.2.3.5"), "another address"
    guard.leave("1.2.3.4")
    assert guard.enter("1.2.3.4")
    assert guard.refused == 3


def test_all_addresses_together_have_so_many_handshakes() -> None:
    guard = InboundGuard(LIMITS)
    assert sum(guard.enter(f"1.2.3.{number}") for number in range(100)) == 8


def test_nothing_is_kept_of_addresses_that_are_gone() -> None:
    guard = InboundGuard(LIMITS)
    for number in range(1000):
        origin = f"1.2.{number // 256}.{number % 256}"
        assert guard.enter(origin)
        guard.agreed(origin)
        guard.leave(origin)
    assert not guard._open
    assert not guard._shaking


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one(host: str, origin: str) -> None:
    assert origin_of(host) == origin
