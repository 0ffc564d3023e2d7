"""What this machine's network looks like: its addresses, the networks that it is in, and who answers it for names."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, ip_address
from pathlib import Path

import psutil
from msgspec import Struct

LARGEST_PREFIX = 8  # a wider network than that, on an interface, is a route into the internet
MOST_RESOLVERS = 3  # more are not asked by anybody
_RESOLV_CONF, _BEHIND_STUB = Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")
_ROUTES = Path("/proc/net/route")
_DESTINATION, _MASK = 1, 7  # fields of a line of it


class HostNetwork(Struct, frozen=True, kw_only=True):
    """inner: the machine's own addresses and the networks that it is directly in. routed: all networks to which it
    knows a way of their own, those too. resolvers: whom it asks for names, without those that only it can ask."""

    inner: tuple[IPv4Network, ...]
    routed: tuple[IPv4Network, ...]
    resolvers: tuple[IPv4Address, ...]


def host_network() -> HostNetwork:
    """As it is now. Raises OSError."""
    inner = tuple(sorted(_inner()))
    return HostNetwork(inner=inner, routed=tuple(sorted({*inner, *_routed()})), resolvers=tuple(_resolvers()))


def own_addresses() -> frozenset[str]:
    """Of all interfaces, as text, without the zones of IPv6."""
    families = (socket.AF_INET, socket.AF_INET6)
    return frozenset(
        str(ip_address(entry.address.partition("%")[0]))
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in families
    )


def network_namespace() -> str:
    """Of this process, as /proc names it."""
    return str(Path("/proc/self/ns/net").readlink())


def has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").is_dir()


def resolvers_in(text: str) -> list[IPv4Address]:
    """Of a resolv.conf, in its order, without loopback ones."""
    found: list[IPv4Address] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = IPv4Address(words[1])
        except AddressValueError:
            continue
        if not (address.is_loopback or address.is_unspecified or address in found):
            found.append(address)
    return found[:MOST_RESOLVERS]


def _resolvers() -> Sequence[IPv4Address]:
    """Where only a stub on the loopback is named, systemd-resolved's file has those behind it."""
    for path in (_RESOLV_CONF, _BEHIND_STUB):
        try:
            if found := resolvers_in(path.read_text("utf-8", "replace")):
                return found
        except OSError:
            continue
    return ()


def _inner() -> set[IPv4Network]:
    found: set[IPv4Network] = set()
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family is not socket.AF_INET:
                continue
            found.add(IPv4Network(address.address))
            network = IPv4Network((address.address, address.netmask or "255.255.255.255"), strict=False)
            if network.prefixlen >= LARGEST_PREFIX:
                found.add(network)
    return found


def _routed() -> set[IPv4Network]:
    """Of the kernel's main table: numbers in hex, of the machine's byte order."""
    found: set[IPv4Network] = set()
    for line in _ROUTES.read_text("ascii", "replace").splitlines()[1:]:
        fields = line.split()
        if len(fields) > _MASK:
            network = IPv4Network((_address(fields[_DESTINATION]), str(_address(fields[_MASK]))))
            if network.prefixlen >= LARGEST_PREFIX:
                found.add(network)
    return found


def _address(hexadecimal: str) -> IPv4Address:
    return IPv4Address(socket.ntohl(int(hexadecimal, 16)))
