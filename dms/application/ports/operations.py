"""For operators: the relay to a message broker, and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct


class RelayStatus(Struct, frozen=True, kw_only=True):
    """state: "connecting" (events wait), "connected", "refused" (an operator must act; error says
    how). position: of the newest event that the broker has confirmed."""

    state: str
    position: int
    error: str = ""


class Relay(Protocol):
    """Feeds the log to a broker, each event once and in order."""

    @property
    def status(self) -> RelayStatus: ...


class Metrics(Protocol):
    async def render(self, accept: str, readers: Mapping[str, int], clients: Mapping[str, int]) -> tuple[bytes, str]:
        """(body, content type) for that Accept header. readers: subscriber of the log -> position reached;
        clients: kind of connection -> how many are open."""
