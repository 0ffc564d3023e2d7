"""Multiaddrs of peers: which we use, how ours are written for others, and the book of those we know."""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import psutil
from multiaddr import Multiaddr
from multiaddr.exceptions import BinaryParseError, MultiaddrError

from dms.adapters.p2p.identity import public_key
from dms.domain.peer_id import is_peer_id
from dms.errors import ConfigError
from dms.recent import Recent

logger = logging.getLogger(__name__)

MAX_ADDRESS = 256  # characters
_MOST_TOLD = 64  # looked at, of those that a peer tells at once
_PER_PEER = 16
_PEERS = 10_000
_DOCKER_BRIDGE = re.compile(r"docker\d+|br-[0-9a-f]{12}")


def listenable(listen: Sequence[str]) -> list[str]:
    """The TCP addresses among them, as the library writes them: it keeps its listeners under that. QUIC ones are left
    out: this library loses bytes over QUIC. Raises ConfigError for anything else."""
    used: list[str] = []
    for text in listen:
        names = _protocols(text)
        if _is_quic(names):
            continue
        if len(names) == 2 and names[0] in {"ip4", "ip6"} and names[1] == "tcp":
            used.append(str(Multiaddr(text)))
        else:
            raise ConfigError(f"Can't listen on {text!r}: expected an address such as /ip4/0.0.0.0/tcp/9876.")
    return list(dict.fromkeys(used))


def remarks_on_listening(listen: Sequence[str]) -> list[str]:
    """What a user should know of these addresses. Raises ConfigError for one that is no multiaddr."""
    quic = [text for text in listen if _is_quic(_protocols(text))]
    return [f"not listening on {text}: QUIC is not used, peers connect over TCP" for text in quic]


def _is_quic(names: Sequence[str]) -> bool:
    return "quic" in names or "quic-v1" in names


def announceable(announce: Sequence[str]) -> list[str]:
    """Without the peer behind them. Raises ConfigError for one that is no multiaddr."""
    bare = [address.partition("/p2p/")[0] for address in announce]
    for address in bare:
        _protocols(address)
    return bare


class DnsAddr(NamedTuple):
    """A name behind which addresses of peers are found. peer_id: the only one that is meant; empty for all."""

    name: str
    peer_id: str
    text: str


def read_bootstrap(text: str) -> tuple[str, str] | DnsAddr | None:
    """'/ip4/1.2.3.4/tcp/1/p2p/12D3..' -> ('12D3..', '/ip4/1.2.3.4/tcp/1'). None for a peer that is not used: a node of
    the original, or one at an address of another transport than TCP. Raises ConfigError."""
    address, _, peer_id = text.rpartition("/p2p/") if "/p2p/" in text else (text, "", "")
    names = _protocols(text) if len(text) <= 2 * MAX_ADDRESS else []
    if names and _is_of_the_original(peer_id):
        return None
    if names[:1] == ["dnsaddr"] and len(names) == 1 + bool(peer_id):
        if not peer_id or public_key(peer_id) is not None:
            return DnsAddr(address.removeprefix("/dnsaddr/"), peer_id, text)
    elif names and public_key(peer_id) is not None:
        return (peer_id, address) if dialable(address) else None
    raise ConfigError(
        f"{text[:MAX_ADDRESS]!r} is not a peer: expected an address such as /ip4/1.2.3.4/tcp/9876/p2p/12D3..."
    )


def _is_of_the_original(peer_id: str) -> bool:
    """Its ids are digests of RSA keys, and ours the Ed25519 keys themselves: the two don't understand each other."""
    return is_peer_id(peer_id) and public_key(peer_id) is None


def remark_on_target(peer_id: str) -> str:
    """What a user should know of job.target_peer; empty when it is fine."""
    if not peer_id or (is_peer_id(peer_id) and not _is_of_the_original(peer_id)):
        return ""
    wrong = f"job.target_peer {peer_id[:MAX_ADDRESS]!r} is no peer of this network"
    return f"{wrong}: requests that name no provider will fail"


def remarks_on(bootstrap: Sequence[str]) -> list[str]:
    """What a user should know of these addresses. Raises ConfigError for one that is none of a peer."""
    found = []
    for text in bootstrap:
        entry = read_bootstrap(text)
        if entry is None and _is_of_the_original(text.rpartition("/p2p/")[2]):
            found.append(f"bootstrap peer {text} is not used: it is a node of the original network")
        elif entry is None:
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


def texts_of(addresses: Iterable[Multiaddr]) -> list[str]:
    """Without those that have none: bytes of a peer become a Multiaddr unchecked, and fail only when written."""
    found = []
    for address in addresses:
        try:
            found.append(str(address))
        except BinaryParseError as error:
            logger.debug("an address of a peer is none: %r", error)
    return found


def _protocols(text: str) -> list[str]:
    try:
        return [protocol.name for protocol in Multiaddr(text).protocols()]
    except (MultiaddrError, ValueError, TypeError, LookupError) as error:
        raise ConfigError(f"{text!r} is not a multiaddr such as /ip4/0.0.0.0/tcp/9876.") from error


def expand(bound: Sequence[str], announce: Sequence[str]) -> list[str]:
    """What others may dial: the announced addresses if there are any; else the bound ones, with 0.0.0.0 and
    :: replaced by the addresses of this machine's interfaces."""
    if announce:
        return list(dict.fromkeys(announce))
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
    """Where peers can be dialled: at most 16 addresses a peer, newest first, of the 10,000 peers last heard of. Anybody
    may make up so many in a moment, so those that are `wanted`, who are few, keep their place.
    May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._peers: Recent[str, list[str]] = Recent()
        self._is_wanted: Callable[[str], bool] = lambda _peer_id: False

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """wanted(peer id) is called from any thread, and must not come back here."""
        self._is_wanted = wanted

    def add(self, peer_id: str, addresses: Sequence[str]) -> bool:
        """Addresses that can't be dialled over TCP are left out. Whether any is new."""
        usable = [a for text in addresses[:_MOST_TOLD] if dialable(a := text.partition("/p2p/")[0])][:_PER_PEER]
        if not usable or public_key(peer_id) is None:
            return False
        with self._lock:
            known = self._peers.get(peer_id, [])
            self._peers[peer_id] = list(dict.fromkeys([*usable, *known]))[:_PER_PEER]
            self._make_room()
            return any(address not in known for address in usable)

    def _make_room(self) -> None:
        for _ in range(len(self._peers) if len(self._peers) > _PEERS else 0):
            oldest = next(iter(self._peers))
            if not self._is_wanted(oldest):
                del self._peers[oldest]
                return
            self._peers.move_to_end(oldest)

    def of(self, peer_id: str) -> list[str]:
        with self._lock:
            return list(self._peers[peer_id]) if peer_id in self._peers else []  # to look is no use of it

    def peers(self) -> list[str]:
        with self._lock:
            return list(self._peers)
