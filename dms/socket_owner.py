"""Whose the other end of a connection within this machine is: the kernel knows the user who made each socket.

Asked of the kernel by netlink, which finds one connection among any number; where it has no such answer, in the tables
of /proc. Both show this network namespace alone, so nobody from elsewhere is ever found there. Source: sock_diag(7).
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

_SOCK_DIAG, _BY_FAMILY, _ERROR, _REQUEST = 4, 20, 2, 1  # NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_ERROR, NLM_F_*
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_ANY_STATE, _NO_COOKIE = 0xFFFFFFFF, b"\xff" * 8
_FOUND = struct.Struct("=BBBB48sIIIII")  # inet_diag_msg
_TABLES = {4: ("tcp", "tcp6"), 6: ("tcp6",)}
_MAPPED = "0000000000000000FFFF0000"  # how /proc begins an IPv4 address in IPv6


class End(NamedTuple):
    """Of a TCP connection; an IPv4 address is never written as an IPv6 one."""

    address: str
    port: int


def end_of(name: object) -> End | None:
    """name: as a socket tells it. None for what is no address of a machine."""
    if not isinstance(name, tuple) or len(name) < 2:
        return None
    try:
        address = ip_address(str(name[0]).partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return End(str(mapped or address), int(name[1]))


def owner_of(peer: End, own: End) -> int | None:
    """The user id of who made the socket at `peer`, which is connected to ours at `own`; None when that can't be told,
    as of one that is closed already: the kernel then says 0, which is root's; and of one of elsewhere, for which all
    connections are looked through where the kernel has no quicker answer: so ask of addresses of this machine."""
    try:
        return _asked(peer, own)
    except OSError:
        return _looked_up(peer, own)


def _asked(peer: End, own: End) -> int | None:
    """Raises OSError where there is no such socket, or the kernel has no such answers."""
    family = socket.AF_INET6 if ":" in peer.address else socket.AF_INET
    places = b"".join(socket.inet_pton(family, end.address).ljust(16, b"\0") for end in (peer, own))
    wanted = struct.pack("!HH", peer.port, own.port) + places + struct.pack("=I", 0) + _NO_COOKIE
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE) + wanted
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as asking:
        asking.settimeout(1.0)
        asking.send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body)
        answer = asking.recv(8192)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        raise OSError(-struct.unpack_from("=i", answer, _HEADER.size)[0], "sock_diag")
    *_, uid, inode = _FOUND.unpack_from(answer, _HEADER.size)
    return int(uid) if inode else None


def _looked_up(peer: End, own: End) -> int | None:
    wanted = [_in_table(peer), _in_table(own)]
    mapped = [_MAPPED + text for text in wanted] if ":" not in peer.address else []
    for name in _TABLES[6 if ":" in peer.address else 4]:
        try:
            lines = Path("/proc/net", name).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[1:3] in (wanted, mapped) and int(fields[9]):
                return int(fields[7])
    return None


def _in_table(end: End) -> str:
    """As /proc/net/tcp has it: each 32 bits of the address as a number of this machine, in hex."""
    packed = ip_address(end.address).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{end.port:04X}"
