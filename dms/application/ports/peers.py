"""The peer-to-peer network."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct


class PeerInfo(Struct, frozen=True):
    """A connected peer. addresses: multiaddrs that end in /p2p/<peer id>. since: Unix time in seconds from which on it
    is connected; 0 when unknown."""

    peer_id: str
    addresses: tuple[str, ...]
    since: int = 0


class Heard(Struct, frozen=True):
    """What a kept connection tells of its peer. silent_seconds: since anything came from it, its answers to
    heartbeats included; a peer that is there is never silent for longer than a heartbeat and its answer take.
    rtt_seconds: the newest measured round trip."""

    silent_seconds: float
    rtt_seconds: float


RequestHandler = Callable[[str, bytes], Awaitable[bytes]]
"""(peer id of the secured connection, body) -> answer. A DmsError becomes an error answer."""

StreamHandler = Callable[[str, bytes], AsyncGenerator[bytes, None]]
"""(peer id, opening body) -> the frames to send; its end is sent as an explicit final frame."""

GossipHandler = Callable[[str, bytes], None]
"""(peer id of the message's signer, body) -> None. Called on the asyncio loop."""


class PeerNetwork(Protocol):
    """The node's libp2p host. Bodies are JSON bytes; who a peer is, the secured connection says."""

    peer_id: str

    @property
    def listen_addresses(self) -> Sequence[str]:
        """Multiaddrs that end in /p2p/<own peer id>, concrete addresses only."""

    def serve_request(self, protocol: str, handler: RequestHandler) -> None: ...

    def serve_stream(self, protocol: str, handler: StreamHandler, *, raw: bool = False) -> None:
        """raw: the frames are any bytes, not JSON; at most 200,000 each."""

    def serve_gossip(self, topic: str, handler: GossipHandler) -> None: ...

    async def publish(self, topic: str, body: bytes) -> None: ...

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        """Raises PeerUnreachable (dial, timeout, cut), or the DmsError the peer answered with
        (Forbidden, NotFound, Conflict, InvalidInput, Unavailable; anything else arrives as PeerFailed).
        PeerUnreachable and PeerFailed are Unavailables too: where the difference matters, catch them first.
        Raises PeerMisbehaved for what is no answer."""

    def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The frames of the peer's StreamHandler; ends normally only on its explicit final frame.
        Raises as `request` does; a stream without a frame or heartbeat for 25 s is cut."""

    async def ping(self, peer_id: str, timeout_seconds: float) -> float:
        """Round trip in seconds, of a stream that is there. The time counts from the connection on: dialling has
        its own. Raises PeerUnreachable; PeerSlow when it is connected and does not answer in time."""

    def heard(self, peer_id: str) -> Heard | None:
        """None when it is not connected, or nothing has come from it yet."""

    def refused_connections(self) -> int:
        """How many of others were refused before their handshakes, for their number."""

    def is_local(self, peer_id: str) -> bool:
        """Whether one of the DMS's operators runs it on this very machine, or did when it was last connected in this
        run."""

    def add_addresses(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Remembers where a peer can be dialled (from an advertisement)."""

    def on_peer(self, callback: Callable[[str, bool], None]) -> None:
        """Calls back on the asyncio loop with (peer id, connected) when that changes."""

    def peers(self) -> Sequence[PeerInfo]:
        """Connected peers, by peer id."""


class Host(PeerNetwork, Protocol):
    """A PeerNetwork of our own, which starts and ends with the daemon."""

    async def start(self) -> None:
        """Raises Unavailable naming an address that can't be listened on."""

    async def close(self) -> None:
        """Safe to repeat."""
