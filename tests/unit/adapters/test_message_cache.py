"""What gossip keeps of other peers' messages, however long it takes from one heartbeat to the next."""

from __future__ import annotations

from libp2p.pubsub.mcache import MessageCache
from libp2p.pubsub.pb import rpc_pb2

from dms.adapters.p2p.gossip_bounds import BoundedMessageCache

TOPIC, MOST_BYTES = "topic", 10_000


def message(number: int, size: int = 1_000) -> rpc_pb2.Message:
    """Of so many bytes in all."""
    made = rpc_pb2.Message(from_id=b"peer", seqno=number.to_bytes(8, "big"), data=b"x" * size, topicIDs=[TOPIC])
    made.data = made.data[made.ByteSize() - size :]
    assert made.ByteSize() == size
    return made


def cache() -> BoundedMessageCache:
    return BoundedMessageCache(MessageCache(3, 5), MOST_BYTES)


def held_bytes(made: BoundedMessageCache) -> int:
    return sum(kept.ByteSize() for kept in made.msgs.values())


def test_a_flood_between_two_heartbeats_takes_no_more_than_its_place_and_the_newest_stay() -> None:
    made = cache()
    for number in range(1_000):
        made.put(message(number))
        made.put(message(number))
        if number in (300, 990):
            made.shift()
    assert held_bytes(made) == MOST_BYTES
    newest = [b"peer" + number.to_bytes(8, "big") for number in range(990, 1_000)]
    assert sorted(made.window(TOPIC)) == newest, "no other one is offered to peers"
    assert all(made.get(mid) is not None for mid in newest)


def test_heartbeats_make_room_as_they_always_did() -> None:
    made = cache()
    for number in range(100):
        made.put(message(number, 900))
        made.shift()
        assert held_bytes(made) <= 5 * 900
    for _ in range(5):
        made.shift()
    assert (made.msgs, held_bytes(made)) == ({}, 0)
    made.put(message(1, MOST_BYTES + 1))  # not even one that is larger than all of it stays
    assert made.msgs == {}
    made.put(message(2, MOST_BYTES))
    assert held_bytes(made) == MOST_BYTES


def test_names_of_topics_count_as_well() -> None:
    made = cache()
    for number in range(100):
        long = rpc_pb2.Message(from_id=b"peer", seqno=number.to_bytes(8, "big"), topicIDs=[TOPIC, "t" * 900])
        made.put(long)
    assert 0 < held_bytes(made) <= MOST_BYTES
