"""What we remember of what a peer says of itself by identify. 0.8.1 remembers up to 1 MiB of each of a thousand peers,
and as much of each of the last thousand addresses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError
from libp2p.abc import INetStream, IPeerStore
from libp2p.host import basic_host
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.identity.update import update_peerstore_from_identify
from libp2p.peer.id import ID

from dms.adapters.p2p.framing import Wire
from dms.errors import PeerMisbehaved

T = TypeVar("T", str, bytes)

_LONGEST = 64 << 10  # bytes; other implementations send 8 KiB at most
_SECONDS = 10.0
_MOST_ADDRESSES = 64
_MOST_PROTOCOLS = 256
_LONGEST_NAME = 256  # bytes of an address or of a protocol's name


async def remember(peerstore: IPeerStore, peer_id: ID, identify_msg: Identify) -> None:
    """Without its signed record, which says the same once more and which nobody asks us for."""
    bounded = Identify()
    if identify_msg.HasField("public_key"):
        bounded.public_key = identify_msg.public_key[:_LONGEST_NAME]
    bounded.listen_addrs.extend(_short(identify_msg.listen_addrs)[:_MOST_ADDRESSES])
    bounded.protocols.extend(_short(identify_msg.protocols)[:_MOST_PROTOCOLS])
    await update_peerstore_from_identify(peerstore, peer_id, bounded)


def _short(texts: Iterable[T]) -> list[T]:
    return [text for text in texts if len(text) <= _LONGEST_NAME]


def serve_push(host: BasicHost) -> None:
    """Instead of the library's handler, which reads up to 1 MiB."""

    async def take(stream: INetStream) -> None:
        wire, told = Wire(stream), Identify()
        try:
            told.ParseFromString(await wire.read_frame(_SECONDS, _LONGEST))
        except DecodeError as error:
            raise PeerMisbehaved(f"Peer {wire.peer_id} sent an identify message that can't be read.") from error
        await remember(host.get_peerstore(), stream.muxed_conn.peer_id, told)
        await wire.finish()

    host.set_stream_handler(ID_PUSH, take)


def install() -> None:
    """Replaces what can't be extended. Safe to repeat."""
    basic_host.update_peerstore_from_identify = remember  # type: ignore[attr-defined]
