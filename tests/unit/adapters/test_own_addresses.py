"""The addresses of this machine that other nodes are told."""

from __future__ import annotations

import socket
from typing import NamedTuple

import psutil
import pytest

from dms.adapters.p2p.addresses import announceable, expand, interface_ips


class Entry(NamedTuple):
    """As much of psutil's as is looked at."""

    family: socket.AddressFamily
    address: str


def on(address: str, family: socket.AddressFamily = socket.AF_INET) -> list[Entry]:
    return [Entry(family, address)]


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "lo": on("127.0.0.1"),
        "eth0": [*on("192.0.2.7"), *on("2001:db8::7", socket.AF_INET6), *on("fe80::1%eth0", socket.AF_INET6)],
        "br0": on("198.51.100.7"),  # a bridge that somebody made on purpose: virtual machines, a second port
        "docker0": on("172.17.0.1"),
        "br-0a1b2c3d4e5f": on("10.217.3.9"),
        "tun0": on("169.254.9.9"),
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)


def test_bridges_of_containers_are_no_way_to_this_machine() -> None:
    assert interface_ips("ip4") == ["192.0.2.7", "198.51.100.7", "127.0.0.1"]
    assert interface_ips("ip6") == ["2001:db8::7"]


def test_an_address_of_all_interfaces_is_told_as_each_of_them() -> None:
    assert expand(["/ip4/0.0.0.0/tcp/9000"], []) == [
        "/ip4/192.0.2.7/tcp/9000", "/ip4/198.51.100.7/tcp/9000", "/ip4/127.0.0.1/tcp/9000",
    ]  # fmt: skip


def test_what_is_announced_is_told_in_place_of_them() -> None:
    announced = announceable(["/ip4/203.0.113.5/tcp/1/p2p/x"])
    assert expand(["/ip4/0.0.0.0/tcp/9000"], announced) == ["/ip4/203.0.113.5/tcp/1"]
