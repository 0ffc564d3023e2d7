"""Which addresses are of inner networks: this machine, its neighbours, a cloud's metadata. A stranger's words must not
make this machine ask there, behind its walls."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Azure's platform answers each of its machines at a public address, with secrets of theirs. Source: Microsoft Learn,
# "What is IP address 168.63.129.16?".
AZURE_PLATFORM = ipaddress.IPv4Network("168.63.129.16/32")
# What the library counts as global and is not the internet: relays, translators and protocols of the IETF's own.
# Source: IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 6890, RFC 8215, RFC 3879, RFC 9637, RFC 9602.
_SPECIAL = tuple(map(ipaddress.ip_network, (
    "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
    "fec0::/10", str(AZURE_PLATFORM),
)))  # fmt: skip
_UNICAST = ipaddress.IPv6Network("2000::/3")
# Behind each of them is an IPv4 address, from that bit on: mapped, compatible, NAT64, 6to4.
_EMBEDDED = tuple(
    (ipaddress.IPv6Network(prefix), shift)
    for prefix, shift in (("::ffff:0:0/96", 0), ("::/96", 0), ("64:ff9b::/96", 0), ("2002::/16", 80))
)


def is_inner_address(address: str, allowed: Iterable[Network] = ()) -> bool:
    """address: what a name was resolved to, or a connection leads to. allowed: networks that count as outside. What is
    no address counts as inner."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    real = _embedded(found) or found
    return not any(real in network for network in allowed) and not _is_public(real)


def _embedded(address: Address) -> Address | None:
    if isinstance(address, ipaddress.IPv6Address):
        for network, shift in _EMBEDDED:
            if address in network:
                return ipaddress.IPv4Address((int(address) >> shift) & 0xFFFF_FFFF)
    return None


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL)
