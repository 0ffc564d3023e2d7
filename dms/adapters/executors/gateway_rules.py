"""The rules of a gateway: what of the world a job with a network reaches. Pure: text in, text out.

They are loaded where the job is, so they see the machine itself as one host among others. The engine keeps its own
rules for names in the table `nat`, which is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from itertools import pairwise

from msgspec import Struct

from dms.domain.inner_addresses import AZURE_PLATFORM

DNS_PORT = 53
SHUT_PORTS = (25,)  # no mail to servers from here
FROM_THIS_MACHINE = 64  # the TTL of packets that no router has passed on, as Linux sends them

# Source: the IANA IPv4 Special-Purpose Address Registry; multicast and the reserved ranges above it.
INNER = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3", AZURE_PLATFORM,
    )
)  # fmt: skip


class Bounds(Struct, frozen=True, kw_only=True):
    """Of one job. bytes: in both directions together. connections: open at once. new: connections and questions for
    names, a second, after a first burst."""

    bytes: int
    connections: int = 256
    new: int = 50
    burst: int = 200


def closed(resolvers: Sequence[IPv4Address], inner: Iterable[IPv4Network], bounds: Bounds) -> str:
    """What iptables-restore takes. resolvers: reached at port 53 alone, wherever they are. inner: networks beyond the
    special ones that are not public for this machine: its own addresses, and those that it is directly in."""
    shut = collapse_addresses([*INNER, *inner])
    fresh = f"-m conntrack --ctstate NEW -m limit --limit {bounds.new}/sec --limit-burst {bounds.burst}"
    crowd = f"-m conntrack --ctstate NEW -m connlimit --connlimit-above {bounds.connections} --connlimit-mask 0"
    rules = [
        "-A INPUT -i lo -j ACCEPT",
        *(f"-A INPUT -s {address}/32 -m conntrack --ctstate ESTABLISHED -j COUNTED" for address in resolvers),
        f"-A INPUT -m ttl --ttl-eq {FROM_THIS_MACHINE} -j DROP",
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j COUNTED",
        "-A OUTPUT -o lo -j ACCEPT",
        *(
            f"-A OUTPUT -d {address}/32 -p {protocol} -m {protocol} --dport {DNS_PORT} -j RATED"
            for address in resolvers
            for protocol in ("udp", "tcp")
        ),
        *(f"-A OUTPUT -d {network} -j REJECT --reject-with icmp-host-unreachable" for network in shut),
        *(
            f"-A OUTPUT -p tcp -m tcp --dport {port} -j REJECT --reject-with icmp-port-unreachable"
            for port in SHUT_PORTS
        ),
        f"-A OUTPUT -p tcp {crowd} -j REJECT --reject-with icmp-port-unreachable",
        "-A OUTPUT -p tcp -j RATED",
        "-A OUTPUT -j REJECT --reject-with icmp-port-unreachable",
        f"-A RATED {fresh} -j COUNTED",
        "-A RATED -m conntrack --ctstate NEW -j DROP",
        "-A RATED -j COUNTED",
        f"-A COUNTED -m quota --quota {bounds.bytes} -j ACCEPT",
        "-A COUNTED -j DROP",
    ]
    return _table(["INPUT", "FORWARD", "OUTPUT"], ["RATED", "COUNTED"], rules)


def closed_to_v6() -> str:
    """What ip6tables-restore takes: nothing but the job's own loopback."""
    rules = ["-A INPUT -i lo -j ACCEPT", "-A OUTPUT -o lo -j ACCEPT", "-A OUTPUT -j REJECT"]
    return _table(["INPUT", "FORWARD", "OUTPUT"], [], rules)


def _table(closed_chains: Sequence[str], own_chains: Sequence[str], rules: Sequence[str]) -> str:
    heads = [f":{chain} DROP [0:0]" for chain in closed_chains] + [f":{chain} - [0:0]" for chain in own_chains]
    return "\n".join(["*filter", *heads, *rules, "COMMIT"]) + "\n"


_COMPARED = ("-A", "-i", "-o", "-s", "-d", "-p", "--dport", "--ttl-eq", "--connlimit-above", "-j")


def differs(written: str, read: str) -> str:
    """How what iptables-save tells is another than what was loaded; empty when it is the same. Compared are the policy
    of each chain and, of each rule in order, what decides whom it stops: its other words differ between versions."""
    ours, theirs = _parsed(written), _parsed(read)
    if ours == theirs:
        return ""
    missing = [line for line in ours if line not in theirs] or ["their order"]
    return f"{len(theirs)} lines in place of {len(ours)}, without: {missing[0]}"


def _parsed(text: str) -> list[str]:
    """Of the table `filter` alone, chain by chain, as iptables-save tells it."""
    found: list[str] = []
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line.strip()
        elif table == "*filter" and line.startswith(":"):
            found.append(" ".join(line[1:].split()[:2]))  # chain and policy
        elif table == "*filter" and line.startswith("-A"):
            found.append(_rule(line.split()))
    return sorted(found, key=lambda line: line if not line.startswith("-A") else " ".join(line.split()[:2]))


def _rule(words: Sequence[str]) -> str:
    return " ".join(f"{option} {value}" for option, value in pairwise(words) if option in _COMPARED)
