"""Which network a job has."""

from __future__ import annotations

from enum import StrEnum

from dms.errors import InvalidInput


class Network(StrEnum):
    NONE = "none"  # only its own loopback
    INTERNET = "internet"  # public addresses over TCP, and names; not the machine, its networks, or other jobs


NETWORKS = tuple(network.value for network in Network)


def network_of(word: str) -> Network:
    """Raises InvalidInput."""
    if word not in NETWORKS:
        raise InvalidInput(f"unknown network {word[:64]!r}; one of {', '.join(NETWORKS)}")
    return Network(word)
