"""What one peer can make a node keep or send by gossip. The peer is a real second host, which writes what it likes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from dms.adapters.p2p import gossip_bounds
from dms.adapters.p2p.framing import LINE_ERRORS, Wire, encode_frame
from dms.adapters.p2p.gossip_bounds import (
    LONGEST_REST,
    MAX_RPC,
    MOST_MESSAGES,
    MOST_TIMES,
    QUEUED_BYTES,
    QUEUED_SHARE,
    BoundedQueue,
    BoundedRouter,
    GuardedPubsub,
)
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from tests.fixtures.local_peers import LOCAL
from tests.integration.p2p.stranger import attack, connected
from tests.integration.p2p.waiting import until, wait_until

TOPIC, READ = "/test/gossip", "/test/read"
MESHSUB = TProtocol("/meshsub/1.1.0")


@pytest.fixture
async def served() -> AsyncIterator[Libp2pNetwork]:
    network = Libp2pNetwork(Identity.generate(), LOCAL)
    network.serve_gossip(TOPIC, lambda _peer, _body: None)
    await network.start()
    await wait_until(lambda: TOPIC in router(network).mesh)
    yield network
    await network.close()


def pubsub(network: Libp2pNetwork) -> GuardedPubsub:
    return network._parts()[1].gossip._pubsub


def router(network: Libp2pNetwork) -> BoundedRouter:
    return network._parts()[1].gossip._router


def listens_to_nothing(host: IHost) -> None:
    async def hold(_stream: INetStream) -> None:
        await trio.sleep_forever()

    host.set_stream_handler(MESHSUB, hold)


async def speak(host: IHost, network: Libp2pNetwork, rpcs: list[rpc_pb2.RPC]) -> None:
    """Returns once the network has read them all."""
    last = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=READ)])
    stream = await host.new_stream(ID.from_string(network.peer_id), [MESHSUB])
    for rpc in [*rpcs, last]:
        await stream.write(encode_frame(rpc.SerializeToString()))
    await until(lambda: host.get_id() in pubsub(network).peer_topics.get(READ, ()))


def waiting(network: Libp2pNetwork, peer: ID) -> list[rpc_pb2.RPC]:
    queue = pubsub(network).peer_queues[peer]._queue
    return [*queue._priority, *queue._non_priority]


def sent_from_now(network: Libp2pNetwork, peer: ID) -> list[rpc_pb2.Message]:
    """Grows by each whole message that is to be sent to it."""
    queue, sent = pubsub(network).peer_queues[peer], list[rpc_pb2.Message]()
    push = queue.push

    def note(rpc: rpc_pb2.RPC, priority: bool = False) -> bool:
        sent.extend(rpc.publish)
        return push(rpc, priority)

    queue.push = note  # type: ignore[method-assign]
    return sent


async def published(network: Libp2pNetwork, count: int, size: int) -> None:
    """Which the network keeps, however slow the machine."""
    router(network).mcache.shift = lambda: None  # type: ignore[method-assign]
    for _ in range(count):
        await network.publish(TOPIC, os.urandom(size))


async def test_a_message_is_sent_three_times_at_most_to_who_asks_for_it(served: Libp2pNetwork) -> None:
    await published(served, 1, 60_000)
    mid = next(iter(router(served).mcache.msgs))

    async def act(host: IHost, _target: ID) -> None:
        await until(lambda: host.get_id() in pubsub(served).peer_queues)
        sent = sent_from_now(served, host.get_id())
        rpcs = [rpc_pb2.RPC() for _ in range(2 * MOST_TIMES)]
        for rpc in rpcs:
            for text in (mid, mid.hex().encode(), mid.hex().upper().encode()):
                rpc.control.iwant.add(messageIDs=[text] * 1000)
        await speak(host, served, rpcs)
        assert len(sent) == MOST_TIMES

    await attack(served, act, listens_to_nothing)


async def test_what_waits_for_a_peer_is_bounded_by_its_bytes(served: Libp2pNetwork) -> None:
    await published(served, 100, 60_000)
    mids = list(router(served).mcache.msgs)

    async def act(host: IHost, _target: ID) -> None:
        await until(lambda: host.get_id() in pubsub(served).peer_queues)
        rpcs = [rpc_pb2.RPC() for _ in range(9)]
        for number, rpc in enumerate(rpcs):
            rpc.control.iwant.add(messageIDs=mids[number * 10 :])
        await speak(host, served, rpcs)
        assert sum(rpc.ByteSize() for rpc in waiting(served, host.get_id())) <= QUEUED_BYTES

    await attack(served, act, listens_to_nothing)


def test_many_peers_that_read_nothing_have_a_bound_together_and_others_are_told_all_the_same() -> None:
    part = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"x" * 60_000)])

    async def main() -> None:
        queues = [BoundedQueue() for _ in range(64)]
        for queue in queues:
            while queue.push(part):
                continue
            assert queue.size <= QUEUED_BYTES
        assert sum(queue.size for queue in queues) <= gossip_bounds.QUEUED_BYTES_OF_ALL + 64 * QUEUED_SHARE
        reader = BoundedQueue()
        assert reader.push(part)
        assert await reader.pop() is part
        assert reader.size == 0

    trio.run(main)


async def test_a_peer_has_one_stream_of_gossip_and_a_new_one_takes_its_place(served: Libp2pNetwork) -> None:
    async def act(host: IHost, target: ID) -> None:
        live = served._parts()[1]._host._live
        for _ in range(20):
            stream = await host.new_stream(target, [MESHSUB])
            await stream.write(encode_frame(b"a" * (MAX_RPC - 10))[:-1])
        await until(lambda: live[str(host.get_id())] <= 1)
        await speak(host, served, [])

    await attack(served, act, listens_to_nothing)


async def test_a_frame_that_has_begun_has_a_deadline(served: Libp2pNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_bounds, "_FRAME_SECONDS", 0.1)

    async def act(host: IHost, target: ID) -> None:
        stream = await host.new_stream(target, [MESHSUB])
        await stream.write(encode_frame(b"a" * 1000)[:-1])
        with trio.fail_after(120), suppress(*LINE_ERRORS):
            assert not await stream.read(1)

    await attack(served, act, listens_to_nothing)


async def test_of_many_messages_at_once_so_many_are_looked_at(served: Libp2pNetwork) -> None:
    looked_at = 0
    push = pubsub(served).push_msg

    async def count(msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        nonlocal looked_at
        looked_at += 1
        await push(msg_forwarder, msg)

    pubsub(served).push_msg = count  # type: ignore[method-assign]

    async def act(host: IHost, _target: ID) -> None:
        rpc = rpc_pb2.RPC()
        for number in range(20_000):
            rpc.publish.add(topicIDs=[TOPIC], seqno=number.to_bytes(8, "big"), from_id=b"x")
        odd = rpc_pb2.RPC()
        odd.publish.add(topicIDs=[TOPIC, *(f"t{number}" for number in range(5000))], seqno=b"1", from_id=b"x")
        odd.publish.add(topicIDs=[TOPIC], seqno=b"1" * 100_000, from_id=b"x")
        await speak(host, served, [rpc, odd])
        assert looked_at == MOST_MESSAGES

    await attack(served, act, listens_to_nothing)


async def test_gossip_goes_round_the_peers_and_leaves_half_of_the_time(served: Libp2pNetwork) -> None:
    """However much of it comes: what an honest peer says, or asks for, is not behind all of a flood."""
    told: list[tuple[ID, float, float]] = []
    turn = pubsub(served)._turn

    async def take_long(msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        if not told:
            await until(lambda: turn.statistics().tasks_waiting > 0)
        began = time.perf_counter()
        time.sleep(0.02)  # noqa: ASYNC251  as a signature that is checked
        told.append((msg_forwarder, began, time.perf_counter()))

    pubsub(served).push_msg = take_long  # type: ignore[method-assign]

    async def act(host: IHost, target: ID) -> None:
        flood, word = rpc_pb2.RPC(), rpc_pb2.RPC()
        for number in range(20):
            flood.publish.add(topicIDs=[TOPIC], seqno=number.to_bytes(8, "big"), from_id=b"x")
        word.publish.add(topicIDs=[TOPIC], seqno=b"1", from_id=b"y")
        async with connected(served, listens_to_nothing) as (honest, _):
            for peer, rpc in ((host, flood), (honest, word)):
                stream = await peer.new_stream(target, [MESHSUB])
                await stream.write(encode_frame(rpc.SerializeToString()))
                await until(turn.locked)
            await until(lambda: len(told) == 21)
        assert [peer for peer, _, _ in told[:3]] == [host.get_id(), honest.get_id(), host.get_id()]
        for (_, began, ended), (_, next_began, _) in pairwise(told):
            assert next_began - ended > 0.9 * min(ended - began, LONGEST_REST)

    await attack(served, act, listens_to_nothing)


async def test_topics_that_nobody_has_are_not_remembered_or_answered(served: Libp2pNetwork) -> None:
    def size() -> int:
        notes: tuple[dict[Any, Any], ...] = (
            router(served).back_off, *router(served).ihave_message_limits.values(),
            *router(served).graft_flood_tracking.values(), pubsub(served).peer_topics,
        )  # fmt: skip
        return sum(map(len, notes))

    async def act(host: IHost, _target: ID) -> None:
        await until(lambda: host.get_id() in pubsub(served).peer_queues)
        rpc = rpc_pb2.RPC()
        for number in range(2000):
            rpc.control.graft.add(topicID=f"a{number}")
            rpc.control.prune.add(topicID=f"b{number}", backoff=1 << 60)
            rpc.control.ihave.add(topicID=f"c{number}", messageIDs=[b"1"])
        rpc.control.idontwant.add(messageIDs=[b"m" * 1000])
        rpc.subscriptions.add(subscribe=True, topicid="t" * 10_000)
        await speak(host, served, [rpc])
        assert size() <= 3
        assert len(waiting(served, host.get_id())) <= 3
        assert not router(served).dont_send_message_ids[host.get_id()]

    await attack(served, act, listens_to_nothing)


async def test_who_comes_and_goes_is_told_the_recent_messages_once(served: Libp2pNetwork) -> None:
    await published(served, 1, 1000)

    async def act(host: IHost, _target: ID) -> None:
        await until(lambda: host.get_id() in pubsub(served).peer_queues)
        sent = sent_from_now(served, host.get_id())
        words = [rpc_pb2.RPC.SubOpts(subscribe=number % 2 == 0, topicid=TOPIC) for number in range(100)]
        await speak(host, served, [rpc_pb2.RPC(subscriptions=[word]) for word in words])
        await until(lambda: sent)
        assert len(sent) <= 2  # once more if it waited for the peer's first word

    await attack(served, act, listens_to_nothing)


async def test_of_one_message_the_last_word_on_a_topic_counts(served: Libp2pNetwork) -> None:
    """Each of them begins three tasks."""
    heard: list[tuple[str, bool]] = []
    handle = pubsub(served).handle_subscription

    def note(origin_id: ID, sub_message: rpc_pb2.RPC.SubOpts) -> None:
        heard.append((sub_message.topicid, sub_message.subscribe))
        handle(origin_id, sub_message)

    pubsub(served).handle_subscription = note  # type: ignore[method-assign]

    async def act(host: IHost, _target: ID) -> None:
        rpc = rpc_pb2.RPC()
        for number in range(257):
            rpc.subscriptions.add(subscribe=number % 2 == 1, topicid=TOPIC)
        await speak(host, served, [rpc])
        assert heard == [(TOPIC, True), (READ, True)]

    await attack(served, act, listens_to_nothing)


async def test_a_stream_that_misbehaves_ends_itself_and_not_the_one_that_took_its_place(
    served: Libp2pNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    resetting, may_end = threading.Event(), threading.Event()  # two trios wait for them
    reset = Wire.reset

    async def held_up(wire: Wire) -> None:
        if not resetting.is_set():
            resetting.set()
            with trio.CancelScope(shield=True):
                await until(may_end.is_set)
        await reset(wire)

    monkeypatch.setattr(Wire, "reset", held_up)

    async def act(host: IHost, target: ID) -> None:
        bad = await host.new_stream(target, [MESHSUB])
        await bad.write(encode_frame(b"\xff" * 10))
        await until(resetting.is_set)
        mine = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
        await speak(host, served, [mine])
        newer = pubsub(served)._heard[host.get_id()]
        may_end.set()
        await until(lambda: served._parts()[1]._host._live[str(host.get_id())] <= 1)
        assert pubsub(served)._heard[host.get_id()] is newer
        assert host.get_id() in pubsub(served).peer_topics[TOPIC]

    await attack(served, act, listens_to_nothing)


async def test_who_opens_a_new_stream_stays_a_subscriber(served: Libp2pNetwork) -> None:
    async def act(host: IHost, _target: ID) -> None:
        mine = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
        for _ in range(3):
            await speak(host, served, [mine])
            assert host.get_id() in pubsub(served).peer_topics[TOPIC]

    await attack(served, act, listens_to_nothing)
