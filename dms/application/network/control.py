"""The control protocol: two kinds of messages between peers that share a job, told apart by their fields."""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType

from dms.application.network.messages import CONTROL, decode_request
from dms.application.ports.peers import PeerNetwork, RequestHandler


class Kind(Struct):
    head: Raw | UnsetType = UNSET


def serve_control(network: PeerNetwork, terminate: RequestHandler, head: RequestHandler) -> None:
    async def answer(peer_id: str, body: bytes) -> bytes:
        handler = terminate if decode_request(body, Kind).head is UNSET else head
        return await handler(peer_id, body)

    network.serve_request(CONTROL, answer)
