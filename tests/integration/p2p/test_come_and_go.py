"""Connections that come and go for years leave nothing behind, and whoever stays is heard."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from dms.adapters.p2p import host as hosts
from dms.adapters.p2p import workarounds
from dms.adapters.p2p.framing import LINE_ERRORS
from dms.adapters.p2p.gossip import Gossip
from dms.adapters.p2p.gossip_bounds import BoundedQueue
from dms.adapters.p2p.host import build_host, running
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard
from dms.adapters.p2p.links import Links
from dms.adapters.p2p.network import Libp2pNetwork
from dms.adapters.p2p.workarounds import GuardedHost, HardenedSwarm
from dms.errors import PeerUnreachable
from tests.fixtures.local_peers import LOCAL

LISTEN = ["/ip4/127.0.0.1/tcp/0"]
TOPIC = "/test/gossip"
Heard = list[bytes]


class Peer:
    def __init__(self, host: GuardedHost, address: str) -> None:
        self.host, self.address, self.gossip, self.heard = host, Multiaddr(address), Gossip(host), Heard()

    @property
    def id(self) -> ID:
        return self.host.get_id()

    @property
    def swarm(self) -> HardenedSwarm:
        return cast("HardenedSwarm", self.host.get_network())

    async def dial(self, other: Peer) -> Any:
        return await self.swarm._dial_addr_single_attempt(other.address, other.id)

    def knows_topic_of(self, other: Peer) -> bool:
        return other.id in self.gossip._pubsub.peer_topics.get(TOPIC, ())


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    host = build_host(Identity.generate(), (), InboundGuard())
    async with running(host, LISTEN) as bound:
        made = Peer(host, bound[0].partition("/p2p/")[0])
        async with made.gossip.running():
            yield made


@asynccontextmanager
async def gossiping() -> AsyncIterator[Peer]:
    async with peer() as made, trio.open_nursery() as nursery:
        nursery.start_soon(made.gossip.subscribe, TOPIC, lambda _signer, body: made.heard.append(body))
        yield made
        nursery.cancel_scope.cancel()


async def until(is_so: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not is_so():
            await trio.sleep(0.01)


async def say_nothing(_stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


@pytest.fixture
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "MAX_INBOUND", 10)
    monkeypatch.setattr(hosts, "_MAX_OUTBOUND", 2)


def test_dials_that_are_given_up_use_up_no_connection(few_connections: None) -> None:
    async def main() -> None:
        silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = silent[0].socket.getsockname()[1]
        async with peer() as ours, peer() as other, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, say_nothing, silent)
            for _ in range(30):
                with trio.move_on_after(0.02):
                    await ours.swarm._dial_addr_single_attempt(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}"), other.id)
            await ours.dial(other)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_peer_that_has_all_its_connections_uses_up_no_more_of_others(few_connections: None) -> None:
    async def main() -> None:
        async with peer() as ours, peer() as greedy, peer() as other:
            for _ in range(30):
                with suppress(*LINE_ERRORS):
                    await greedy.dial(ours)
                await trio.sleep(0.11)  # the library takes ten a second of one peer
            await other.dial(ours)

    trio.run(main)


def test_gossip_goes_both_ways_over_the_connection_that_is_left() -> None:
    async def main() -> None:
        async with gossiping() as one, gossiping() as two:
            first = await one.dial(two)
            await until(lambda: one.knows_topic_of(two) and two.knows_topic_of(one))
            await one.dial(two)
            await until(lambda: len(two.swarm.get_connections(one.id)) == 2)
            await first.close()
            for number in range(100):  # each notices at its next message, one before the other
                for sender in (one, two):
                    await sender.gossip.publish(TOPIC, b"%d" % number)
                    await trio.sleep(0.01)
                if one.heard and two.heard and number > 50:
                    break
            one.heard.clear()
            two.heard.clear()
            await one.gossip.publish(TOPIC, b"from one")
            await two.gossip.publish(TOPIC, b"from two")
            await until(lambda: b"from one" in two.heard and b"from two" in one.heard)

    trio.run(main)


def test_who_is_gone_is_subscribed_to_nothing() -> None:
    async def main() -> None:
        async with gossiping() as one:
            async with gossiping() as two:
                await one.dial(two)
                await until(lambda: one.knows_topic_of(two))
            await until(lambda: not one.gossip._pubsub.peer_topics.get(TOPIC))
            assert not one.gossip._pubsub._heard

    trio.run(main)


def test_two_connections_at_once_leave_no_task_behind() -> None:
    async def main() -> None:
        before = len(list(BoundedQueue._all))
        async with gossiping() as one, gossiping() as two:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(one.dial, two)
            await until(lambda: one.knows_topic_of(two) and two.knows_topic_of(one))
            for conn in list(one.swarm.get_connections(two.id)):
                await conn.close()

            def left() -> int:
                gc.collect()
                return len(list(BoundedQueue._all)) - before

            await until(lambda: left() == 0)
            assert not one.gossip._pubsub._registering

    trio.run(main)


@pytest.mark.parametrize("name", [("2001:db8::1", 4001, 0, 0), ("192.0.2.1", 4001)])
def test_where_a_connection_comes_from_is_known_of_either_kind(name: tuple[Any, ...]) -> None:
    class Line:
        class stream:  # noqa: N801
            class socket:  # noqa: N801
                @staticmethod
                def getpeername() -> tuple[Any, ...]:
                    return name

    assert workarounds._host_of(cast("ReadWriteCloser", Line)) == name[0]


async def test_a_peer_that_is_not_reached_leaves_nothing_behind() -> None:
    network = Libp2pNetwork(Identity.generate(), LOCAL)
    await network.start()
    try:
        for _ in range(3):
            with pytest.raises(PeerUnreachable):
                await network.request(Identity.generate().peer_id, "/test/nothing", b"1", 60)
        links: Links = network._parts()[1].client._links
        assert not links._slots
        assert not links._dialling
    finally:
        await network.close()
