"""Multiaddrs of peers: which we use, how ours are written for others, and the book of those we know."""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import psutil
from multiaddr import Multiaddr
from multiaddr.exceptions import MultiaddrError

from dms.adapters.p2p.identity import public_key
from dms.errors import ConfigError
from dms.recent import Recent

logger = logging.getLogger(__name__)

MAX_ADDRESS = 256  # characters
_MOST_TOLD = 64  # looked at, of those that a peer tells at once
_PER_PEER = 16
_PEERS = 10_000
_DOCKER_BRIDGE = re.compile(r"docker\d+|br-[0-9a-f]{12}")


def listenable(listen: Sequence[str]) -> list[str]:
    """The TCP addresses among them. QUIC ones are said to be unused: this library loses bytes over QUIC.
    Raises ConfigError for anything else."""
    used = []
    for text in listen:
        names = _protocols(text)
        if "quic" in names or "quic-v1" in names:
            logger.warning("not listening on %s: QUIC is not used, peers connect over TCP", text)
        elif len(names) == 2 and names[0] in {"ip4", "ip6"} and names[1] == "tcp":
            used.append(text)
        else:
            raise ConfigError(f"Can't listen on {text!r}: expected an address such as /ip4/0.0.0.0/tcp/9876.")
    return used


class DnsAddr(NamedTuple):
    """A name behind which addresses of peers are found. peer_id: the only one that is meant; empty for all."""

    name: str
    peer_id: str
    text: str


def read_bootstrap(text: str) -> tuple[str, str] | DnsAddr | None:
    """'/ip4/1.2.3.4/tcp/1/p2p/12D3..' -> ('12D3..', '/ip4/1.2.3.4/tcp/1'). None for a peer at an address of another
    transport than TCP, which is not used. Raises ConfigError."""
    address, _, peer_id = text.rpartition("/p2p/") if "/p2p/" in text else (text, "", "")
    names = _protocols(text) if len(text) <= 2 * MAX_ADDRESS else []
    if names[:1] == ["dnsaddr"] and len(names) == 1 + bool(peer_id):
        if not peer_id or public_key(peer_id) is not None:
            return DnsAddr(address.removeprefix("/dnsaddr/"), peer_id, text)
    elif names and public_key(peer_id) is not None:
        return (peer_id, address) if dialable(address) else None
    raise ConfigError(
        f"{text[:MAX_ADDRESS]!r} is not a peer: expected an address such as /ip4/1.2.3.4/tcp/9876/p2p/12D3..."
    )


def remarks_on(bootstrap: Sequence[str]) -> list[str]:
    """What a user should know of these addresses. Raises ConfigError for one that is none of a peer."""
    found = []
    for text in bootstrap:
        entry = read_bootstrap(text)
        if entry is None:
            found.append(f"bootstrap peer {text} is not used: peers connect over TCP, without a relay")
        elif isinstance(entry, DnsAddr):
            found.append(f"bootstrap address {text} is looked up in DNS while the node runs, as often as it takes")
    return found


@lru_cache(maxsize=4096)  # the same few are told again and again
def dialable(address: str) -> bool:
    if len(address) > MAX_ADDRESS or not address.isprintable():
        return False
    try:
        names = _protocols(address)
    except ConfigError:
        return False
    return len(names) == 2 and names[0] in {"ip4", "ip6", "dns", "dns4", "dns6"} and names[1] == "tcp"


def _protocols(text: str) -> list[str]:
    try:
        return [protocol.name for protocol in Multiaddr(text).protocols()]
    except (MultiaddrError, ValueError, TypeError, LookupError) as error:
        raise ConfigError(f"{text!r} is not a multiaddr such as /ip4/0.0.0.0/tcp/9876.") from error


def expand(bound: Sequence[str], announce: Sequence[str]) -> list[str]:
    """What others may dial: the announced addresses if there are any; else the bound ones, with 0.0.0.0 and
    :: replaced by the addresses of this machine's interfaces."""
    if announce:
        return list(dict.fromkeys(address.partition("/p2p/")[0] for address in announce))
    concrete: list[str] = []
    for address in bound:
        _, family, host, rest = address.split("/", 3)
        if ipaddress.ip_address(host).is_unspecified:
            concrete += [f"/{family}/{ip}/{rest}" for ip in interface_ips(family)]
        else:
            concrete.append(address)
    return list(dict.fromkeys(concrete))


def interface_ips(family: str) -> list[str]:
    """Addresses a dialler can use, loopback last: not link-local ones, which need a zone, nor those of the bridges that
    Docker makes for containers, our jobs' among them, which come and go and lead to no peer."""
    version = 4 if family == "ip4" else 6
    ips = []
    for name, interface in psutil.net_if_addrs().items():
        if _DOCKER_BRIDGE.fullmatch(name):
            continue
        for entry in interface:
            try:
                ip = ipaddress.ip_address(entry.address)
            except ValueError:  # a MAC, or an address with a zone
                continue
            if ip.version == version and not ip.is_link_local:
                ips.append(str(ip))
    return sorted(dict.fromkeys(ips), key=lambda ip: ip in {"127.0.0.1", "::1"})


class AddressBook:
    """Where peers can be dialled: at most 16 addresses a peer, newest first, of the 10,000 peers last heard of.
    May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._peers: Recent[str, list[str]] = Recent(_PEERS)

    def add(self, peer_id: str, addresses: Sequence[str]) -> bool:
        """Addresses that can't be dialled over TCP are left out. Whether any is new."""
        usable = [a for text in addresses[:_MOST_TOLD] if dialable(a := text.partition("/p2p/")[0])][:_PER_PEER]
        if not usable or public_key(peer_id) is None:
            return False
        with self._lock:
            known = self._peers.get(peer_id, [])
            self._peers[peer_id] = list(dict.fromkeys([*usable, *known]))[:_PER_PEER]
            return any(address not in known for address in usable)

    def of(self, peer_id: str) -> list[str]:
        with self._lock:
            return list(self._peers[peer_id]) if peer_id in self._peers else []  # to look is no use of it

    def peers(self) -> list[str]:
        with self._lock:
            return list(self._peers)
