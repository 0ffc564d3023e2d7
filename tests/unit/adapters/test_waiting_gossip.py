"""Gossip that comes faster than it is handled takes bounded memory, whatever the size of its messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from dms.adapters.p2p import network
from dms.adapters.p2p.gossip import MAX_BODY
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.adapters.p2p.runtime import TrioThread
from dms.errors import InvalidInput
from tests.fixtures.local_peers import LOCAL


class BusyLoop:
    """What is handed to it waits until it has time."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def to_asyncio(self, call: Callable[..., object], *arguments: Any) -> None:
        self.waiting.append((call, arguments))

    def work(self) -> None:
        for call, arguments in self.waiting:
            call(*arguments)
        self.waiting.clear()


@pytest.mark.parametrize("size_bytes", [0, 100, MAX_BODY])
def test_what_waits_is_bounded_and_all_is_taken_again_once_it_was_handled(size_bytes: int) -> None:
    node, loop, heard = Libp2pNetwork(Identity.generate(), LOCAL), BusyLoop(), list[bytes]()

    def handle(_signer: str, body: bytes) -> None:
        heard.append(body)
        raise InvalidInput("a message that nobody understands")

    node.serve_gossip("ads", handle)
    for _ in range(3):
        heard.clear()
        for _ in range(10_000):
            node._deliver(cast("TrioThread", loop), "ads", "a peer", bytes(size_bytes))
        waiting_bytes = sum(len(arguments[-1]) for _, arguments in loop.waiting)
        assert 50 <= len(loop.waiting) <= 4096
        assert waiting_bytes <= network._GOSSIP_WAITING + MAX_BODY
        known = len(loop.waiting)
        loop.work()
        assert len(heard) == known
