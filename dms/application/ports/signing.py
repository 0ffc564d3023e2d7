"""The node's key, and the heads of logs that nodes signed for each other."""

from __future__ import annotations

from typing import Protocol

from dms.domain.heads import Heads


class Signer(Protocol):
    """The node's Ed25519 key."""

    peer_id: str

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""

    def verify(self, peer_id: str, message: bytes, signature: bytes) -> bool:
        """Whether the holder of that peer id's key signed the message."""

    def public_key(self, peer_id: str) -> str:
        """The key in a peer id, 64 hex characters; empty when it holds none that we can read."""


class HeadStore(Protocol):
    """What is kept of heads of logs (our own that peers signed, and theirs), outside the event log."""

    def load(self) -> Heads:
        """Once, before the first save. Empty when there is none."""

    async def save(self, heads: Heads) -> None:
        """All or nothing, and durable. Raises Unavailable."""
