"""What any PeerNetwork does, tried between two real hosts on the loopback interface."""

from __future__ import annotations

import asyncio
import pwd
import time
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.config import P2p
from dms.errors import (
    Conflict,
    DmsError,
    ExecutionError,
    Forbidden,
    InvalidInput,
    NotFound,
    PeerFailed,
    PeerUnreachable,
    ProtocolRefused,
    Unavailable,
)
from tests.fixtures.other_users import NOBODY, acting_as
from tests.integration.p2p.waiting import wait_until

ECHO, FAIL, COUNT, ENDLESS, BROKEN = (f"/test/{name}/1" for name in ("echo", "fail", "count", "endless", "broken"))
TOPIC = "/test/gossip/1"
Errors: dict[str, DmsError] = {
    "forbidden": Forbidden("not yours"),
    "not_found": NotFound("no such job"),
    "conflict": Conflict("already done"),
    "invalid": InvalidInput("no name given"),
    "unavailable": Unavailable("docker is away"),
    "failed": ExecutionError("can't run this"),
}


class Served:
    """What a peer under test has seen."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed = asyncio.Event()
        self.gossip: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def echo(self, _peer_id: str, body: bytes) -> bytes:
        return body

    async def whoami(self, peer_id: str, _body: bytes) -> bytes:
        return f'"{peer_id}"'.encode()

    async def fail(self, _peer_id: str, body: bytes) -> bytes:
        if body == b'"bug"':
            raise RuntimeError("a bug")
        raise Errors[body.decode().strip('"')]

    async def count(self, _peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(int(body)):
                self.sent = number + 1
                yield b"%d" % number
        finally:
            self.closed.set()

    async def endless(self, _peer_id: str, _body: bytes) -> AsyncGenerator[bytes, None]:
        try:
            yield b'"began"'
            await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def broken(self, _peer_id: str, _body: bytes) -> AsyncGenerator[bytes, None]:
        yield b"1"
        raise Conflict("no more")


def make(served: Served, identity: Identity | None = None, port: int = 0) -> Libp2pNetwork:
    network = Libp2pNetwork(
        identity or Identity.generate(), P2p(listen_address=(f"/ip4/127.0.0.1/tcp/{port}",), mdns=False)
    )
    network.serve_request(ECHO, served.echo)
    network.serve_request("/test/whoami/1", served.whoami)
    network.serve_request(FAIL, served.fail)
    network.serve_stream(COUNT, served.count)
    network.serve_stream(ENDLESS, served.endless)
    network.serve_stream(BROKEN, served.broken)
    network.serve_gossip(TOPIC, lambda peer_id, body: served.gossip.put_nowait((peer_id, body)))
    return network


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
async def b(served: Served) -> AsyncIterator[Libp2pNetwork]:
    network = make(served)
    await network.start()
    yield network
    await network.close()


@pytest.fixture
async def a(b: Libp2pNetwork) -> AsyncIterator[Libp2pNetwork]:
    network = make(Served())
    await network.start()
    network.add_addresses(b.peer_id, b.listen_addresses)
    yield network
    await network.close()


async def test_a_request_is_answered_and_knows_who_asks(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    assert await a.request(b.peer_id, ECHO, b'{"x": [1, "\\u00e9"]}', 30) == b'{"x": [1, "\\u00e9"]}'
    assert await a.request(b.peer_id, "/test/whoami/1", b"null", 30) == f'"{a.peer_id}"'.encode()
    assert await b.request(a.peer_id, ECHO, b"1", 30) == b"1"  # back over the same connection


@pytest.mark.parametrize("kind", [kind for kind in Errors if kind != "failed"])
async def test_an_error_arrives_as_itself(a: Libp2pNetwork, b: Libp2pNetwork, kind: str) -> None:
    with pytest.raises(type(Errors[kind]), match=str(Errors[kind])) as caught:
        await a.request(b.peer_id, FAIL, f'"{kind}"'.encode(), 30)
    assert type(caught.value) is type(Errors[kind])


async def test_other_errors_arrive_as_the_peers_failure_and_a_bug_tells_nothing(
    a: Libp2pNetwork, b: Libp2pNetwork
) -> None:
    with pytest.raises(PeerFailed, match="can't run this"):
        await a.request(b.peer_id, FAIL, b'"failed"', 30)
    with pytest.raises(PeerFailed) as caught:
        await a.request(b.peer_id, FAIL, b'"bug"', 30)
    assert "a bug" not in str(caught.value)


async def test_an_unknown_protocol_is_misbehaviour(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    with pytest.raises(ProtocolRefused, match="does not speak"):
        await a.request(b.peer_id, "/test/unknown/1", b"1", 30)


async def test_an_unknown_peer_is_unreachable(a: Libp2pNetwork) -> None:
    with pytest.raises(PeerUnreachable):
        await a.request(Identity.generate().peer_id, ECHO, b"1", 30)
    with pytest.raises(PeerUnreachable):
        await a.request("not a peer id", ECHO, b"1", 30)


async def test_who_is_on_this_machine_is_known_also_when_it_is_gone(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    await a.ping(b.peer_id, 30)
    assert a.is_local(b.peer_id)
    assert not a.is_local(Identity.generate().peer_id)
    assert a.refused_connections() == 0
    await b.close()
    async with asyncio.timeout(120):
        while a.peers():
            await asyncio.sleep(0.01)
    assert a.is_local(b.peer_id)


@pytest.mark.parametrize("dialled", ["ours", "theirs"])
async def test_peers_of_other_users_of_this_machine_are_not_of_it(
    b: Libp2pNetwork, monkeypatch: pytest.MonkeyPatch, dialled: str
) -> None:
    """By another group's name, since this machine may have none of that one: Debian's games is in its own."""
    monkeypatch.setattr("dms.operators.GROUP", "games")
    for uid, trusted in ((0, True), (NOBODY, False), (pwd.getpwnam("games").pw_uid, True)):
        others = make(Served())
        with acting_as(uid):  # so does the thread that begins meanwhile: its sockets are that user's
            await others.start()
        dialler, listener = (others, b) if dialled == "ours" else (b, others)
        try:
            dialler.add_addresses(listener.peer_id, listener.listen_addresses)
            await dialler.ping(listener.peer_id, 30)
            await wait_until(lambda peer=others.peer_id: peer in [info.peer_id for info in b.peers()])  # type: ignore[misc]
            assert await b._operators.has(uid) is trusted
            assert b.is_local(others.peer_id) is trusted
        finally:
            await others.close()


async def test_a_slow_answer_is_unreachable_in_time(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    async def never(_peer_id: str, _body: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    b.serve_request("/test/never/1", never)  # also shows that a protocol may be added while running
    await a.ping(b.peer_id, 30)
    with pytest.raises(PeerUnreachable):
        async with asyncio.timeout(120):
            await a.request(b.peer_id, "/test/never/1", b"1", 0.3)


async def test_a_frame_up_to_the_bound_passes_and_a_longer_one_is_refused(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    longest = b'"' + b"x" * (256 * 1024 - 66) + b'"'
    assert await a.request(b.peer_id, ECHO, longest, 120) == longest
    with pytest.raises(InvalidInput):
        await a.request(b.peer_id, ECHO, longest + b" " * 200, 120)


async def test_a_stream_comes_in_order_and_ends(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    assert [frame async for frame in a.stream(b.peer_id, COUNT, b"2000")] == [b"%d" % n for n in range(2000)]
    assert [frame async for frame in a.stream(b.peer_id, COUNT, b"0")] == []


async def test_raw_frames_arrive_as_they_were(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    frames = [b"", b"\0", b'{"end":true}', bytes(range(256)) * 781]

    async def send(_peer_id: str, _body: bytes) -> AsyncGenerator[bytes, None]:
        for frame in frames:
            yield frame

    b.serve_stream("/test/raw/1", send, raw=True)
    await a.ping(b.peer_id, 30)
    assert [frame async for frame in a.stream(b.peer_id, "/test/raw/1", b"1")] == frames


async def test_an_error_inside_a_stream_arrives_after_its_frames(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    stream = a.stream(b.peer_id, BROKEN, b"1")
    assert await anext(stream) == b"1"
    with pytest.raises(Conflict, match="no more"):
        await anext(stream)


async def test_a_stream_that_is_cut_raises(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    stream = a.stream(b.peer_id, ENDLESS, b"1")
    assert await anext(stream) == b'"began"'
    await b.close()
    with pytest.raises(PeerUnreachable):
        async with asyncio.timeout(120):
            await anext(stream)


async def test_a_slow_reader_slows_the_sender_and_gets_everything(
    a: Libp2pNetwork, b: Libp2pNetwork, served: Served
) -> None:
    def padded(number: int) -> bytes:
        return b'"%0512d"' % number

    async def padded_count(_peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        for number in range(int(body)):
            served.sent = number + 1
            yield padded(number)

    b.serve_stream("/test/padded/1", padded_count)
    await a.ping(b.peer_id, 30)
    stream = a.stream(b.peer_id, "/test/padded/1", b"10000")
    assert await anext(stream) == padded(0)
    seen = -1
    while seen != served.sent:  # until the sender stands still, since nobody reads
        seen = served.sent
        for _ in range(20):
            await a.ping(b.peer_id, 30)
    assert served.sent < 9_000
    assert [frame async for frame in stream] == [padded(number) for number in range(1, 10_000)]


async def test_closing_a_stream_closes_it_at_the_sender(a: Libp2pNetwork, b: Libp2pNetwork, served: Served) -> None:
    stream = a.stream(b.peer_id, ENDLESS, b"1")
    await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(served.closed.wait(), 120)


async def test_cancelling_a_reader_closes_the_stream_at_the_sender(
    a: Libp2pNetwork, b: Libp2pNetwork, served: Served
) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async for _ in a.stream(b.peer_id, ENDLESS, b"1"):
            began.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(began.wait(), 120)
    task.cancel()
    await asyncio.wait_for(served.closed.wait(), 120)


async def test_a_sender_is_closed_when_its_reader_dies(a: Libp2pNetwork, b: Libp2pNetwork, served: Served) -> None:
    stream = a.stream(b.peer_id, ENDLESS, b"1")
    await anext(stream)
    await a.close()
    await asyncio.wait_for(served.closed.wait(), 120)


@pytest.mark.slow
async def test_many_streams_of_one_peer_at_once(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    streams = [a.stream(b.peer_id, ENDLESS, b"1") for _ in range(64)]
    assert await asyncio.gather(*(anext(stream) for stream in streams)) == [b'"began"'] * 64
    assert await asyncio.gather(*(a.request(b.peer_id, ECHO, b"7", 120) for _ in range(50))) == [b"7"] * 50
    for stream in streams:
        await stream.aclose()


async def test_ping_measures_a_round_trip(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    assert 0 < await a.ping(b.peer_id, 30) < 30  # seconds
    with pytest.raises(PeerUnreachable):
        await a.ping(Identity.generate().peer_id, 30)


async def test_peers_that_come_and_go_are_told(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    changes: list[tuple[str, bool]] = []
    before = int(time.time())
    a.on_peer(lambda peer_id, connected: changes.append((peer_id, connected)))
    await a.ping(b.peer_id, 30)
    await wait_until(lambda: [peer.peer_id for peer in b.peers()] == [a.peer_id])
    assert [peer.peer_id for peer in a.peers()] == [b.peer_id]
    assert a.peers()[0].addresses == tuple(b.listen_addresses)
    assert before <= a.peers()[0].since <= time.time()
    await b.close()
    await wait_until(lambda: not a.peers())
    assert changes == [(b.peer_id, True), (b.peer_id, False)]


async def test_gossip_reaches_those_who_connect_later_with_its_signer(
    a: Libp2pNetwork, b: Libp2pNetwork, served: Served
) -> None:
    await a.publish(TOPIC, b'"nobody hears this"')
    await a.ping(b.peer_id, 30)

    async def hear() -> None:
        message = ("", b"")
        while message != (a.peer_id, b'"hello"'):
            message = await served.gossip.get()
            assert message[0] == a.peer_id

    hearing = asyncio.create_task(hear())
    await wait_until(b.peers)
    async with asyncio.timeout(120):
        while not hearing.done():
            await a.publish(TOPIC, b'"hello"')
            await asyncio.wait([hearing], timeout=0.2)
    await hearing
    with pytest.raises(InvalidInput):
        await a.publish(TOPIC, b"x" * (64 * 1024 + 1))


async def test_a_peer_that_restarts_is_reached_again(a: Libp2pNetwork, served: Served) -> None:
    identity = Identity.generate()
    first = make(served, identity)
    await first.start()
    a.add_addresses(identity.peer_id, first.listen_addresses)
    assert await a.request(identity.peer_id, ECHO, b"1", 30) == b"1"
    port = int(first.listen_addresses[0].split("/")[4])
    await first.close()
    with pytest.raises(PeerUnreachable):
        await a.request(identity.peer_id, ECHO, b"2", 30)
    second = make(served, identity, port)
    await second.start()
    assert await a.request(identity.peer_id, ECHO, b"3", 120) == b"3"
    await second.close()


async def test_nothing_is_asked_of_a_closed_network(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    await a.close()
    with pytest.raises(PeerUnreachable):
        await a.request(b.peer_id, ECHO, b"1", 1)
