"""What py-libp2p 0.8.1 needs before a stranger may gossip with it: bounds of all that a peer makes us keep or send."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import MessageCache, default_msg_id_fn
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.utils import safe_bytes_from_hex

from dms.adapters.p2p.framing import Wire, encode_frame
from dms.adapters.p2p.in_run import InRun
from dms.errors import PeerMisbehaved, PeerSlow, PeerUnreachable

logger = logging.getLogger(__name__)

GOSSIP_QUEUE = 1024  # messages that wait for a subscription, or for one peer
MAX_RPC = 1 << 20  # bytes of what comes
_MAX_PART = 128 << 10  # bytes of what we send at once: one message, or several small ones
QUEUED_BYTES = 4 << 20  # that wait for one peer
QUEUED_BYTES_OF_ALL = 32 << 20  # a peer for whom less than its share waits is not held up by the others
QUEUED_SHARE = 64 << 10
_PART_COST = 512  # bytes that an empty one counts for
_FRAME_SECONDS = 10.0  # for the rest of a frame that has begun
MOST_MESSAGES = 256  # of one RPC
_MOST_SUBSCRIPTIONS = 256  # of one RPC
_MOST_IDS = 256  # asked for by one RPC
_MOST_OFFERED = 1024  # ids that are looked at, of those that one RPC offers or refuses
_MOST_SENT_BYTES = 1 << 20  # for one RPC
MOST_TIMES = 3  # that one message is sent to a peer that asks for it
_LONGEST_NAME = 256  # bytes of a topic's name
_LONGEST_ID = 128  # bytes of a message's id as it is written; of ours at most 92
_LONGEST_BACKOFF = 3600  # seconds
LONGEST_REST = 0.05  # seconds


class BoundedQueue(RpcQueue):
    """What waits for a peer to read it. 0.8.1 counts 32 parts of up to 1 MiB, which is too few for a burst of small
    messages, and too much for large ones."""

    _all: ClassVar[InRun[BoundedQueue]] = InRun("gossip queues")

    def __init__(self) -> None:
        super().__init__(GOSSIP_QUEUE, _MAX_PART)
        self.size = 0  # bytes
        self._all.add(self)

    def push(self, rpc: rpc_pb2.RPC, priority: bool = False) -> bool:
        size = _cost(rpc)
        if not self._has_room(size) or not super().push(rpc, priority):
            return False
        self.size += size
        return True

    async def pop(self) -> rpc_pb2.RPC | None:
        rpc = await super().pop()
        if rpc is not None:
            self.size -= _cost(rpc)
        return rpc

    def _has_room(self, size: int) -> bool:
        after = self.size + size
        if after <= QUEUED_SHARE:
            return True
        return after <= QUEUED_BYTES and sum(one.size for one in self._all) + size <= QUEUED_BYTES_OF_ALL


def _cost(rpc: rpc_pb2.RPC) -> int:
    return int(rpc.ByteSize()) + _PART_COST


class BoundedMessageCache(MessageCache):
    """What gossip keeps for peers that ask for it again. 0.8.1 keeps all that came between a few heartbeats, and these
    wait for slow peers: in a flood it grew without an end. Here the oldest give way."""

    def __init__(self, plain: MessageCache, most_bytes: int) -> None:
        super().__init__(plain.window_size, plain.history_size)
        self._most_bytes, self._bytes = most_bytes, 0
        self._asked: dict[bytes, Counter[ID]] = {}  # of messages that are here

    def put(self, msg: rpc_pb2.Message) -> None:
        if default_msg_id_fn(msg) in self.msgs:
            return
        super().put(msg)
        self._bytes += msg.ByteSize()  # of all of it: names of topics may be long where the data is short
        while self._bytes > self._most_bytes:
            oldest = next(entries for entries in reversed(self.history) if entries)
            mid = oldest.pop(0).mid
            self._bytes -= self.msgs.pop(mid).ByteSize()
            self._asked.pop(mid, None)

    def shift(self) -> None:
        for entry in self.history[-1]:
            self._bytes -= self.msgs[entry.mid].ByteSize()
            self._asked.pop(entry.mid, None)
        super().shift()

    def asked(self, mid: bytes, peer: ID) -> rpc_pb2.Message | None:
        """The message, where the peer hasn't had it so often already."""
        message = self.get(mid)
        if message is None:
            return None
        times = self._asked.setdefault(mid, Counter())
        times[peer] += 1
        return message if times[peer] <= MOST_TIMES else None


class BoundedRouter(GossipSub):
    """0.8.1 does whatever a control message asks for, as often as it stands there, and notes whatever it names."""

    mcache: BoundedMessageCache

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        bounded = rpc_pb2.RPC()
        asked, kept = rpc.control, bounded.control
        kept.ihave.extend(self._offers(asked.ihave))
        kept.iwant.extend(self._wishes(asked.iwant, sender_peer_id))
        kept.graft.extend(self._by_topic(asked.graft))
        for prune in self._by_topic(asked.prune):  # without other peers, whom it would have us dial
            kept.prune.add(topicID=prune.topicID, backoff=min(prune.backoff, _LONGEST_BACKOFF))
        kept.idontwant.extend(_refusals(asked.idontwant))
        await super().handle_rpc(bounded, sender_peer_id)

    def _by_topic(self, asked: Iterable[Any]) -> list[Any]:
        """One of each topic that is ours: the library notes the others too, and answers each."""
        return list({one.topicID: one for one in asked if one.topicID in self.mesh}.values())

    def _offers(self, asked: Iterable[Any]) -> list[rpc_pb2.ControlIHave]:
        left, offers = _MOST_OFFERED, []
        for one in self._by_topic(asked):
            ids = _short(one.messageIDs)[:left]
            left -= len(ids)
            offers.append(rpc_pb2.ControlIHave(topicID=one.topicID, messageIDs=ids))
        return offers

    def _wishes(self, asked: Iterable[Any], peer: ID) -> list[rpc_pb2.ControlIWant]:
        """One wish with what the peer may have of all its wishes."""
        written = dict.fromkeys(mid for one in asked for mid in _short(one.messageIDs))
        ids = dict.fromkeys(mid for text in written if (mid := safe_bytes_from_hex(text)) is not None)
        granted, size = [], 0
        for mid in list(ids)[:_MOST_IDS]:
            message = self.mcache.asked(mid, peer)
            size += message.ByteSize() if message is not None else 0
            if size > _MOST_SENT_BYTES:
                break
            if message is not None:
                granted.append(mid.hex().encode())
        return [rpc_pb2.ControlIWant(messageIDs=granted)] if granted else []

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:
        """0.8.1 keeps a thousand whole messages for this. A second message under the id of one that was seen never
        comes so far."""
        return True


def _refusals(asked: Iterable[Any]) -> list[rpc_pb2.ControlIDontWant]:
    ids = dict.fromkeys(mid for one in asked for mid in _short(one.messageIDs))
    return [rpc_pb2.ControlIDontWant(messageIDs=list(ids)[:_MOST_OFFERED])] if ids else []


def _short(ids: Iterable[Any]) -> list[Any]:
    return [mid for mid in ids if len(mid) <= _LONGEST_ID]


class GuardedPubsub(Pubsub):
    """0.8.1 reads any number of streams of a peer, each for ever, and makes a task of each message in them."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._heard: dict[ID, trio.CancelScope] = {}
        self._registering: dict[ID, trio.Lock] = {}
        self._turn = trio.Lock()  # passes from peer to peer, in the order in which they came for it
        super().__init__(*args, **more)

    async def stream_handler(self, stream: INetStream) -> None:
        """A peer has one stream to us. A new one takes the old one's place: the peer may have come back."""
        peer = stream.muxed_conn.peer_id
        wire = Wire(stream)
        with trio.CancelScope() as scope:
            before, self._heard[peer] = self._heard.get(peer), scope
            if before is not None:
                before.cancel()
            try:
                await self._listen(wire, peer, scope)
            finally:
                if self._heard.get(peer) is scope:
                    del self._heard[peer]
                    if not self._peer_is_connected(peer):
                        self._forget_all_subscriptions(peer)
        if scope.cancelled_caught:
            await wire.reset()

    async def _listen(self, wire: Wire, peer: ID, scope: trio.CancelScope) -> None:
        try:
            while True:
                await wire.begun()
                rpc = rpc_pb2.RPC()
                rpc.ParseFromString(await wire.read_frame(_FRAME_SECONDS, MAX_RPC))
                await self._take(rpc, peer)
        except (PeerMisbehaved, PeerSlow, DecodeError) as error:
            logger.warning("gossip of peer %s: %r", peer, error)
            await wire.reset()
            if self._heard.get(peer) is scope:  # else another stream has taken its place
                del self._heard[peer]
                self._handle_dead_peer(peer)
        except PeerUnreachable:
            return  # it has ended the stream

    async def _take(self, rpc: rpc_pb2.RPC, peer: ID) -> None:
        for message in rpc.publish[:MOST_MESSAGES]:
            if self._is_subscribed_to_msg(message) and _is_plain(message):
                async with self._resting():
                    await self.push_msg(peer, message)
        last_words = {one.topicid: one for one in rpc.subscriptions[:_MOST_SUBSCRIPTIONS]}
        for topic, subscription in last_words.items():
            if len(topic) <= _LONGEST_NAME:
                async with self._resting():
                    self.handle_subscription(peer, subscription)
                    await trio.lowlevel.checkpoint()  # the tasks that it begins
        if rpc.HasField("control"):
            async with self._resting():
                await self.router.handle_rpc(rpc, peer)

    @asynccontextmanager
    async def _resting(self) -> AsyncIterator[None]:
        """One at a time of all peers', and then as long without: signatures and what is passed on take time, and
        gossip, however much comes, leaves half of it to whoever asks for something. Who sends more waits meanwhile."""
        async with self._turn:
            began = trio.current_time()
            yield
            await trio.sleep(min(trio.current_time() - began, LONGEST_REST))

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """0.8.1 runs this as a task of the pubsub service, which any exception ends; the message is a peer's."""
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001 -- the outermost handler of whatever a peer sends
            logger.warning("a gossip message from peer %s was dropped: %r", msg_forwarder, error)

    def _forget_subscription(self, peer_id: ID, topic: str) -> None:
        """0.8.1 sends all recent messages again to who leaves a topic and comes back, as often as it does."""
        had = topic in self._replayed_recent_topics.get(peer_id, ()) and topic in self.topic_ids
        super()._forget_subscription(peer_id, topic)
        if had:
            self._replayed_recent_topics.setdefault(peer_id, set()).add(topic)

    async def write_msg(self, stream: INetStream, rpc_msg: rpc_pb2.RPC) -> bool:
        """0.8.1 writes what it sends again past the peer's queue, in as many tasks as the peer causes."""
        router = self.router
        assert isinstance(router, GossipSub)  # noqa: S101 -- the only one that we have
        router.send_rpc(stream.muxed_conn.peer_id, rpc_msg)
        return True

    async def handle_sending_messages(self, peer_id: ID, stream: INetStream, queue: RpcQueue) -> None:
        try:
            while (rpc := await queue.pop()) is not None:
                await stream.write(encode_frame(rpc.SerializeToString()))
        except Exception as error:  # noqa: BLE001 -- the outermost loop of whatever ends a peer's stream
            logger.debug("gossip for peer %s: %r", peer_id, error)
            if self.peer_queues.get(peer_id) is queue:  # else another stream has taken its place
                self._handle_dead_peer(peer_id)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """0.8.1 opens a stream for each of two connections that come up at once; the first one's task never ends."""
        lock = self._registering.setdefault(peer_id, trio.Lock())
        try:
            async with lock:
                await super()._handle_new_peer(peer_id)
        finally:
            if not lock.locked():
                self._registering.pop(peer_id, None)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """0.8.1 forgets what the peer subscribed to as soon as our stream to it ends. Whose own stream to us goes on,
        over another connection, does not say that again."""
        told = (
            [topic for topic, peers in self.peer_topics.items() if peer_id in peers] if peer_id in self._heard else []
        )
        replayed = self._replayed_recent_topics.get(peer_id, set()) & set(told)
        super()._handle_dead_peer(peer_id)
        if not self._peer_is_connected(peer_id):
            return
        for topic in told:
            self.peer_topics.setdefault(topic, set()).add(peer_id)
        if told:
            self._peer_subscription_count[peer_id] = len(told)
        if replayed:
            self._replayed_recent_topics[peer_id] = replayed


def _is_plain(message: rpc_pb2.Message) -> bool:
    """As everybody writes it: of one topic, and with an id that is short enough to be remembered."""
    return len(message.topicIDs) == 1 and len(message.from_id) + len(message.seqno) <= _LONGEST_ID // 2
