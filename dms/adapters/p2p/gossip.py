"""Gossip between all nodes (gossipsub, signed): what one publishes on a topic, every subscriber gets."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.exceptions import PubsubRouterError
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, PROTOCOL_ID_V12
from libp2p.tools.anyio_service import background_trio_service

from dms.adapters.p2p.gossip_bounds import BoundedMessageCache, BoundedRouter, GuardedPubsub
from dms.adapters.p2p.workarounds import GuardedHost
from dms.errors import InvalidInput, Unavailable

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
_MAX_MESSAGE = MAX_BODY + 4096  # with what is written around the body
_KEPT_BYTES = 8 << 20  # of other peers' messages, for those that missed one

Deliver = Callable[[str, bytes], None]


class Gossip:
    """All calls are trio's. The library's own defaults are a heartbeat of 120 s and 10 messages a second."""

    def __init__(self, host: GuardedHost) -> None:
        self._own_id = str(host.get_id())
        self._router = BoundedRouter(
            protocols=[TProtocol(PROTOCOL_ID_V12), TProtocol(PROTOCOL_ID_V11), TProtocol(PROTOCOL_ID)],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            max_messages_per_topic_per_second=1000,
        )
        self._router.mcache = BoundedMessageCache(self._router.mcache, _KEPT_BYTES)
        self._pubsub = GuardedPubsub(host, self._router, strict_signing=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background_trio_service(self._router), background_trio_service(self._pubsub):
            await self._pubsub.wait_until_ready()
            yield

    async def publish(self, topic: str, body: bytes) -> None:
        """Raises InvalidInput (too long), Unavailable."""
        if len(body) > MAX_BODY:
            raise InvalidInput(f"A gossip message of {len(body)} bytes is too long; at most {MAX_BODY} are sent.")
        try:
            await self._pubsub.publish(topic, body)
        except (PubsubRouterError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unavailable(f"The gossip message could not be sent: {error}.") from error

    async def subscribe(self, topic: str, deliver: Deliver) -> None:
        """Runs until cancelled. Own messages are left out; the signature of the others was checked."""
        self._pubsub.set_topic_validator(topic, _fits, is_async_validator=False)
        subscription = await self._pubsub.subscribe(topic)
        while True:
            message = await subscription.get()
            signer = str(ID(message.from_id))
            if signer != self._own_id:
                deliver(signer, bytes(message.data))


def _fits(_forwarder: ID, message: Any) -> bool:
    return len(cast("bytes", message.data)) <= MAX_BODY and message.ByteSize() <= _MAX_MESSAGE
