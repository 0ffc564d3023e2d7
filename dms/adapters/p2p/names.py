"""Names in addresses of peers, looked up on the trio side: /dns4/NAME as the system resolves it, and the lists of
addresses that /dnsaddr/NAME stands for (TXT records; https://github.com/multiformats/multiaddr, protocols/DNSADDR)."""

from __future__ import annotations

import logging
from collections.abc import Callable

import dns.asyncresolver
import dns.exception
import trio

from dms.adapters.p2p.addresses import MAX_ADDRESS, DnsAddr, read_bootstrap
from dms.backoff import Backoff
from dms.errors import ConfigError, PeerUnreachable

logger = logging.getLogger(__name__)

LOOK_UP_SECONDS = 5.0
AGAIN_SECONDS = (5.0, 300.0)  # first and longest pause after a look-up that failed
RENEW_SECONDS = 600.0
_DEPTH = 4  # a /dnsaddr may name others
_MOST = 64  # addresses of one name
_MOST_HOSTS = 8
_FAMILIES = {"dns": trio.socket.AF_UNSPEC, "dns4": trio.socket.AF_INET, "dns6": trio.socket.AF_INET6}

Found = Callable[[str, str], None]


def make_resolver() -> dns.asyncresolver.Resolver:
    """Of the machine's own configuration. Raises DNSException when there is none."""
    return dns.asyncresolver.Resolver()


async def by_number(address: str) -> list[str]:
    """/dns4/NAME/tcp/1 with the numbers that the system has for the name, /etc/hosts included; others as they are.
    Raises PeerUnreachable."""
    _, family, host, rest = address.split("/", 3)
    if family not in _FAMILIES:
        return [address]
    try:
        with trio.fail_after(LOOK_UP_SECONDS):
            infos = await trio.socket.getaddrinfo(host, None, _FAMILIES[family], trio.socket.SOCK_STREAM)
    except trio.TooSlowError as error:
        raise PeerUnreachable(f"The name {host} was not found within {LOOK_UP_SECONDS:g} s.") from error
    except (OSError, ValueError) as error:  # ValueError: it can't be a name (idna, NUL)
        raise PeerUnreachable(f"The name {host} was not found: {error}.") from error
    numbers = dict.fromkeys(str(info[4][0]).partition("%")[0] for info in infos)
    return [f"/{'ip6' if ':' in number else 'ip4'}/{number}/{rest}" for number in numbers][:_MOST_HOSTS]


async def keep_looking_up(entry: DnsAddr, found: Found) -> None:
    """For ever: calls found(peer id, address) for what stands behind the name. A look-up that fails is told, once
    for each reason, and tried again."""
    backoff, told = Backoff(*AGAIN_SECONDS), ""
    while True:
        try:
            with trio.fail_after(4 * LOOK_UP_SECONDS):
                addresses = await _behind(entry, _DEPTH)
        except (dns.exception.DNSException, trio.TooSlowError, OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            addresses = []
        else:
            reason = "" if addresses else "there is no TCP address of a peer among its TXT records"
        for peer_id, address in addresses:
            found(peer_id, address)
        if reason and reason != told:
            logger.warning("bootstrap address %s gives no peer: %s. It is looked up again.", entry.text, reason)
        elif told and not reason:
            logger.info("bootstrap address %s gives %d addresses again", entry.text, len(addresses))
        told = reason
        if not reason:
            backoff.reset()
        await trio.sleep(backoff.next() if reason else RENEW_SECONDS)


async def _behind(entry: DnsAddr, depth: int) -> list[tuple[str, str]]:
    """(peer id, address) of the TCP addresses; only of the peer that the entry names, if it names one."""
    if not depth:
        return []
    answer = await make_resolver().resolve(f"_dnsaddr.{entry.name}", "TXT", lifetime=2 * LOOK_UP_SECONDS)
    found: list[tuple[str, str]] = []
    for record in list(answer)[:_MOST]:
        key, _, value = b"".join(record.strings).decode(errors="replace").partition("=")
        if key != "dnsaddr" or len(value) > MAX_ADDRESS:
            continue
        try:
            inner = read_bootstrap(value)
        except ConfigError as error:
            logger.debug("of %s: %s", entry.text, error)
            continue
        if isinstance(inner, DnsAddr):
            found += await _behind(inner, depth - 1)
        elif inner is not None:
            found.append(inner)
    return [(peer, address) for peer, address in found if entry.peer_id in ("", peer)][:_MOST]
