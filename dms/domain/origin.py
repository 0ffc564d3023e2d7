"""What the address of a connection counts as, where connections and requests are counted."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def origin_of(host: str) -> str:
    """Of IPv6 a /64, since who has one address has all of it. Text that is no address counts as itself."""
    address = address_of(host)
    if isinstance(address, IPv6Address) and not address.is_loopback:
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return host if address is None else str(address)


def is_loopback(origin: str) -> bool:
    address = address_of(origin)
    return address is not None and address.is_loopback


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address is never an IPv6 one. None for what is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
