"""Files between two real hosts: whole, checked, resumed, and given only to whom they are for."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.files import file_exchange, file_parts, least_pace, turns
from dms.application.files.file_exchange import FILE, FetchRequest, FileExchange, FileRef
from dms.application.network.messages import encode
from dms.config import P2p
from dms.errors import (
    Conflict,
    DmsError,
    Forbidden,
    NotFound,
    PeerMisbehaved,
    PeerSlow,
    PeerUnreachable,
    Unavailable,
)
from tests.fixtures.local_peers import LOCAL
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import LonelyNetwork

SIZE = 3_000_000
FetchBodies = list[bytes]


class Giver:
    """A host that gives out the files of its folder, by name, to the one peer it knows."""

    def __init__(self, folder: Path, identity: Identity | None = None, port: int = 0) -> None:
        self.folder, self.friend = folder.resolve(), ""
        self.identity = identity or Identity.generate()
        self.network = Libp2pNetwork(self.identity, P2p(listen_address=(f"/ip4/127.0.0.1/tcp/{port}",), mdns=False))
        self.exchange = FileExchange(self.network)
        self.exchange.serve("offer", self.may_read, self.resolve, self.served)
        self.exchange.start()
        self.sent: list[tuple[str, str, int]] = []

    def may_read(self, peer_id: str, _file_id: str) -> bool:
        return peer_id == self.friend

    async def resolve(self, _peer_id: str, file_id: str) -> int | None:
        return file_parts.open_regular(self.folder / file_id)

    def served(self, peer_id: str, file_id: str, size: int) -> None:
        self.sent.append((peer_id, file_id, size))

    @property
    def port(self) -> int:
        return int(self.network.listen_addresses[0].split("/")[4])


@pytest.fixture
async def giver(tmp_path: Path) -> AsyncIterator[Giver]:
    folder = tmp_path / "given"
    folder.mkdir()
    giver = Giver(folder)
    await giver.network.start()
    yield giver
    await giver.network.close()


@pytest.fixture
async def taker(giver: Giver) -> AsyncIterator[Libp2pNetwork]:
    network = Libp2pNetwork(Identity.generate(), LOCAL)
    await network.start()
    network.add_addresses(giver.identity.peer_id, giver.network.listen_addresses)
    giver.friend = network.peer_id
    yield network
    await network.close()


def given(giver: Giver, content: bytes, name: str = "data.bin") -> FileRef:
    (giver.folder / name).write_bytes(content)
    return ref_of(content, name)


def ref_of(content: bytes, name: str = "data.bin") -> FileRef:
    return FileRef(
        kind="offer", id=name, name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )


def lying(network: Libp2pNetwork, frames: Sequence[bytes]) -> FetchBodies:
    """Makes a host send just these frames, whatever is asked; answers what it was asked."""
    asked: FetchBodies = []

    async def send(_peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        asked.append(body)
        for frame in frames:
            yield frame

    network.serve_stream(FILE, send, raw=True)
    return asked


@pytest.mark.parametrize("size", [0, 1, file_parts.PIECE_BYTES, SIZE])
async def test_a_file_arrives_whole_with_progress(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    ref, seen, into = given(giver, content), list[int](), tmp_path / "got"
    assert await FileExchange(taker).fetch(giver.identity.peer_id, ref, into, seen.append) == into
    assert into.read_bytes() == content
    assert seen == sorted(seen)
    assert not seen or seen[-1] == size
    assert giver.sent[-1:] == ([(taker.peer_id, ref.id, size)] if size else [])
    assert not into.with_name("got.part").exists()


async def test_a_fetch_goes_on_behind_the_part_that_is_there(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path
) -> None:
    content = os.urandom(SIZE)
    ref = given(giver, content)
    (tmp_path / "got.part").write_bytes(content[:1_000_000])
    seen: list[int] = []
    await FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got", seen.append)
    assert (tmp_path / "got").read_bytes() == content
    assert seen[0] == 1_000_000
    assert giver.sent[0][2] == 1_000_000 + file_parts.PIECE_BYTES


@pytest.mark.parametrize("old", [b"of another file", os.urandom(SIZE + 1), os.urandom(SIZE)])
async def test_a_part_of_another_file_is_left_and_the_fetch_begins_anew(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, old: bytes
) -> None:
    ref = given(giver, content := os.urandom(SIZE))
    (tmp_path / "got.part").write_bytes(old)
    await FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content


async def test_a_file_that_is_there_is_not_fetched_again(giver: Giver, taker: Libp2pNetwork, tmp_path: Path) -> None:
    ref = given(giver, content := os.urandom(SIZE))
    (tmp_path / "got").write_bytes(content)
    await FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got")
    assert giver.sent == []


async def test_an_older_file_stays_until_the_new_one_is_whole(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path
) -> None:
    into = tmp_path / "got"
    into.write_bytes(b"old")
    ref = given(giver, content := os.urandom(SIZE))
    states: set[bytes] = set()
    await FileExchange(taker).fetch(giver.identity.peer_id, ref, into, lambda _: states.add(into.read_bytes()))
    assert states == {b"old"}
    assert into.read_bytes() == content


async def test_a_fetch_outlives_a_restart_of_the_other_side(giver: Giver, tmp_path: Path, taker: Libp2pNetwork) -> None:
    content = os.urandom(40_000_000)
    ref, seen = given(giver, content), list[int]()
    fetch = asyncio.create_task(FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got", seen.append))
    await wait_for(lambda: seen and seen[-1] > 4_000_000)
    port, friend = giver.port, giver.friend
    await giver.network.close()
    at_the_cut = seen[-1]
    again = Giver(giver.folder, giver.identity, port)
    again.friend = friend
    await again.network.start()
    await asyncio.wait_for(fetch, 120)
    await again.network.close()
    assert (tmp_path / "got").read_bytes() == content
    assert again.sent
    assert again.sent[0][2] > at_the_cut  # nothing that was there went over again


async def test_a_cancelled_fetch_leaves_a_part_that_the_next_goes_on_with(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path
) -> None:
    ref, seen = given(giver, content := os.urandom(40_000_000)), list[int]()
    exchange, into = FileExchange(taker), tmp_path / "got"
    fetch = asyncio.create_task(exchange.fetch(giver.identity.peer_id, ref, into, seen.append))
    await wait_for(lambda: seen and seen[-1] > 2_000_000)
    fetch.cancel()
    await asyncio.wait([fetch])
    part = (tmp_path / "got.part").read_bytes()
    assert 2_000_000 < len(part) < len(content)
    assert content.startswith(part)
    seen.clear()
    await exchange.fetch(giver.identity.peer_id, ref, into, seen.append)
    assert seen[0] >= len(part)
    assert into.read_bytes() == content


async def test_only_the_peer_that_a_file_is_for_gets_it(giver: Giver, taker: Libp2pNetwork, tmp_path: Path) -> None:
    ref = given(giver, b"secret")
    giver.friend = "another"
    exchange = FileExchange(taker)
    with pytest.raises(NotFound):
        await exchange.fetch(giver.identity.peer_id, ref, tmp_path / "got")
    other = FileRef(kind="unknown", id=ref.id, name="", size_bytes=1, sha256=ref.sha256)
    with pytest.raises(NotFound):
        await exchange.fetch(giver.identity.peer_id, other, tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("bait", ["link", "folder link", "fifo", "folder"])
async def test_what_is_no_regular_file_is_not_given_out(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, bait: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    name = "bait"
    match bait:
        case "link":
            (giver.folder / name).symlink_to(tmp_path / "outside" / "secret")
        case "folder link":
            (giver.folder / name).symlink_to(tmp_path / "outside")
            name = "bait/secret"
        case "fifo":
            os.mkfifo(giver.folder / name)
        case _:
            (giver.folder / name).mkdir()
    ref = FileRef(kind="offer", id=name, name=name, size_bytes=6, sha256=ref_of(b"secret").sha256)
    with pytest.raises(Forbidden):
        await asyncio.wait_for(FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got"), 120)


async def test_a_file_that_changed_is_refused(giver: Giver, taker: Libp2pNetwork, tmp_path: Path) -> None:
    ref = given(giver, os.urandom(SIZE))
    given(giver, os.urandom(SIZE + 1))
    with pytest.raises(Conflict):
        await FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got")
    given(giver, os.urandom(SIZE))  # the size alone does not give it away
    with pytest.raises(PeerMisbehaved, match="another content"):
        await FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    assert not (tmp_path / "got.part").exists()


@pytest.mark.parametrize("frames", [[b"12345"], [b"1234", b"5" * 200_000], [b"12", b""], [b"12"]])
async def test_a_peer_that_sends_too_much_or_too_little_is_found_out(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, frames: list[bytes]
) -> None:
    asked = lying(giver.network, frames)
    with pytest.raises(PeerMisbehaved):
        await FileExchange(taker).fetch(giver.identity.peer_id, ref_of(b"1234"), tmp_path / "got")
    assert len(asked) == 1
    assert not (tmp_path / "got").exists()
    if frames != [b"12"]:  # it ended as it should, only too early
        assert not (tmp_path / "got.part").read_bytes()


async def test_a_full_disk_is_found_before_a_byte_is_asked_for(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path
) -> None:
    asked = lying(giver.network, [])
    ref = FileRef(kind="offer", id="x", name="x", size_bytes=1 << 49, sha256="0" * 64)
    with pytest.raises(Unavailable, match="too full"):
        await FileExchange(taker).fetch(giver.identity.peer_id, ref, tmp_path / "got")
    assert asked == []


async def test_a_peer_that_fails_once_is_asked_again_and_one_that_always_fails_is_given_up(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an error of its own, such as a bug."""
    content, resolve, troubles = os.urandom(1000), giver.resolve, [ZeroDivisionError("a bug")]
    ref = given(giver, content)

    async def fails(peer_id: str, name: str) -> int | None:
        if troubles:
            raise troubles.pop()
        return await resolve(peer_id, name)

    giver.exchange.serve("offer", lambda *_: True, fails)
    patient, exchange = FileExchange(taker, away_seconds=120), FileExchange(taker, away_seconds=0.5)
    peer_id = giver.identity.peer_id
    async with asyncio.timeout(240):
        assert (await patient.fetch(peer_id, ref, tmp_path / "got")).read_bytes() == content
        troubles += [ZeroDivisionError("a bug")] * 1000
        with pytest.raises(PeerUnreachable, match="The stream failed at this peer"):
            await exchange.fetch(peer_id, ref, tmp_path / "never")


async def test_a_peer_that_stays_away_is_given_up(taker: Libp2pNetwork, tmp_path: Path) -> None:
    nobody = Identity.generate().peer_id
    with pytest.raises(PeerUnreachable):
        await asyncio.wait_for(
            FileExchange(taker, away_seconds=0.5).fetch(nobody, ref_of(b"1234"), tmp_path / "got"), 120
        )


async def test_more_fetches_than_are_served_at_once_all_arrive(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_exchange, "SERVED_TO_A_PEER", 1)
    refs = [given(giver, os.urandom(SIZE), f"file{number}") for number in range(6)]
    exchange = FileExchange(taker)
    await asyncio.gather(*(exchange.fetch(giver.identity.peer_id, ref, tmp_path / ref.id) for ref in refs))
    assert [ref_of((tmp_path / ref.id).read_bytes(), ref.id) for ref in refs] == refs


async def test_one_place_is_fetched_into_once_at_a_time(giver: Giver, taker: Libp2pNetwork, tmp_path: Path) -> None:
    ref = given(giver, os.urandom(SIZE))
    exchange = FileExchange(taker)
    first = asyncio.create_task(exchange.fetch(giver.identity.peer_id, ref, tmp_path / "got"))
    await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await exchange.fetch(giver.identity.peer_id, ref, tmp_path / "got")
    await first


class Drops(LonelyNetwork):
    """Peers that give a byte, and then nothing but signs of life; one that gives all at once."""

    def __init__(self, content: bytes) -> None:
        super().__init__(Identity.generate().peer_id)
        self.content, self.asked = content, Counter[str]()

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        self.asked[peer_id] += 1
        if peer_id == "quick":
            yield self.content
        else:
            yield b"."
            await asyncio.Event().wait()


async def test_slow_peers_are_in_nobodys_way(tmp_path: Path) -> None:
    network = Drops(content := os.urandom(1000))
    exchange, ref = FileExchange(network), ref_of(content)
    slow = [asyncio.create_task(exchange.fetch("slow", ref, tmp_path / f"{n}")) for n in range(8)]
    async with asyncio.timeout(60):
        await wait_for(lambda: network.asked["slow"])
        assert (await exchange.fetch("quick", ref, tmp_path / "quick")).read_bytes() == content
    assert network.asked["slow"] == file_exchange.FETCHES_FROM_A_PEER
    for task in slow:
        task.cancel()
    await asyncio.wait(slow)
    assert not exchange._slots_of


async def test_who_is_too_slow_gives_its_place_to_others_and_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(least_pace, "PACE_SECONDS", 0.05)
    monkeypatch.setattr(file_exchange, "FETCHES_AT_ONCE", 2)
    monkeypatch.setattr(file_exchange, "PAUSES_SECONDS", (0.01, 0.01))
    network = Drops(content := os.urandom(1000))
    exchange, ref = FileExchange(network, away_seconds=0.5), ref_of(content)
    slow = [asyncio.create_task(exchange.fetch(f"slow {n}", ref, tmp_path / f"{n}")) for n in range(4)]
    async with asyncio.timeout(60):
        await wait_for(lambda: len(network.asked) >= 2)
        await exchange.fetch("quick", ref, tmp_path / "quick", limit_seconds=30)
        await asyncio.wait(slow)
    for task in slow:
        assert isinstance(task.exception(), PeerSlow)
    assert (tmp_path / "0.part").read_bytes().startswith(b".")  # what came is kept


async def test_a_limit_begins_behind_the_wait_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_exchange, "FETCHES_AT_ONCE", 1)
    network = Drops(content := os.urandom(1000))
    exchange, ref = FileExchange(network), ref_of(content)
    slow = asyncio.create_task(exchange.fetch("slow", ref, tmp_path / "slow", limit_seconds=6))
    await wait_for(lambda: network.asked["slow"])
    async with asyncio.timeout(120):
        assert await exchange.fetch("quick", ref, tmp_path / "quick", limit_seconds=5) == tmp_path / "quick"
        with pytest.raises(TimeoutError):
            await slow


async def test_who_reads_too_slowly_is_left_where_it_is(giver: Giver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_pace, "PACE_SECONDS", 0.05)
    monkeypatch.setattr(least_pace, "LEAST_BYTES", 10 * file_parts.PIECE_BYTES)
    giver.friend, ref = "reader", given(giver, os.urandom(10 * file_parts.PIECE_BYTES))
    body = encode(FetchRequest(kind=ref.kind, id=ref.id, size_bytes=ref.size_bytes))
    pieces = 0

    async def read_slowly() -> None:
        nonlocal pieces
        async for _ in giver.exchange._on_fetch("reader", body):
            pieces += 1
            await asyncio.sleep(0.02)

    with pytest.raises(Unavailable, match="too slowly"):
        await read_slowly()
    assert 1 <= pieces < 10
    assert not giver.exchange._given


class Trickles(Drops):
    """Peers that give just enough to keep their places, until they hurry."""

    hurry = False

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        self.asked[peer_id] += 1
        if peer_id == "quick":
            yield self.content
            return
        after = msgspec.json.decode(body, type=FetchRequest).after
        for number in range(after, len(self.content)):
            if self.hurry:
                yield self.content[number:]
                return
            yield self.content[number : number + 1]
            await asyncio.sleep(0.001)


async def test_peers_that_just_keep_pace_make_room_for_others_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(file_exchange, "FETCHES_AT_ONCE", 2)
    monkeypatch.setattr(file_exchange, "PAUSES_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(least_pace, "PACE_SECONDS", 600.0)
    network = Trickles(content := os.urandom(200_000))  # minutes
    exchange, ref = FileExchange(network), ref_of(content)
    slow = [asyncio.create_task(exchange.fetch(f"slow {n}", ref, tmp_path / f"{n}")) for n in range(2)]
    async with asyncio.timeout(120):
        await wait_for(lambda: len(network.asked) == 2)
        await exchange.fetch("quick", ref, tmp_path / "quick")
        assert not any(task.done() for task in slow)
        network.hurry = True
        for task in slow:
            assert (await task).read_bytes() == content
    assert max(network.asked.values()) > 1  # it went on where it was
    assert (len(exchange._taken), exchange._waiting, exchange._slots._value) == (0, 0, 2)


async def test_readers_that_just_keep_pace_make_room_for_others(giver: Giver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_exchange, "SERVED_AT_ONCE", 2)
    monkeypatch.setattr(file_exchange, "ENDING_AT_ONCE", 1)
    giver.exchange.serve("offer", lambda peer_id, _: peer_id != "stranger", giver.resolve)
    ref = given(giver, os.urandom(10 * file_parts.PIECE_BYTES))
    body = encode(FetchRequest(kind=ref.kind, id=ref.id, size_bytes=ref.size_bytes))
    readers = [giver.exchange._on_fetch(f"slow {n}", body) for n in range(2)]
    for reader in readers:
        await anext(reader)
    with pytest.raises(Unavailable, match="as many files as it can"):  # their turn has just begun
        await anext(giver.exchange._on_fetch("early", body))
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    with pytest.raises(NotFound):
        await anext(giver.exchange._on_fetch("stranger", body))
    assert giver.exchange._given.ending == 0  # nobody makes room for who gets nothing
    quick = giver.exchange._on_fetch("quick", body)
    await anext(quick)
    with pytest.raises(Unavailable, match="as many files as it can"):  # the one that makes room is not gone yet
        await anext(giver.exchange._on_fetch("another", body))
    ended = await asyncio.gather(*(anext(reader) for reader in readers), return_exceptions=True)
    (error,) = [found for found in ended if isinstance(found, Unavailable)]
    assert "go on from there later" in str(error)
    for reader in (*readers, quick):
        await reader.aclose()
    assert not giver.exchange._given


async def test_who_has_to_make_room_at_the_giver_goes_on_where_it_was(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little it got in its turn: here a piece."""
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(file_exchange, "PAUSES_SECONDS", (0.01, 0.01))
    ref, begun = given(giver, content := os.urandom(SIZE)), list[int]()

    def others_wait(_peer_id: str, _file_id: str, _size: int) -> None:
        giver.exchange._given.make_room(asyncio.get_running_loop().time)

    def progress(size: int) -> None:
        if size not in begun:
            begun.append(size)

    giver.exchange.serve("offer", giver.may_read, giver.resolve, others_wait)
    async with asyncio.timeout(120):
        await FileExchange(taker, away_seconds=600).fetch(giver.identity.peer_id, ref, tmp_path / "got", progress)
    assert (tmp_path / "got").read_bytes() == content
    assert begun == [*range(0, SIZE, file_parts.PIECE_BYTES), SIZE]


def ending_with(network: Libp2pNetwork, frame: bytes, error: DmsError) -> None:
    async def send(_peer_id: str, _body: bytes) -> AsyncGenerator[bytes, None]:
        yield frame
        raise error

    network.serve_stream(FILE, send, raw=True)


@pytest.mark.parametrize("error", [NotFound("over"), Forbidden("over"), Conflict("over"), Unavailable("busy")])
async def test_what_came_before_the_peer_gave_no_more_is_kept(
    giver: Giver, taker: Libp2pNetwork, tmp_path: Path, error: DmsError
) -> None:
    ending_with(giver.network, b"12", error)
    exchange = FileExchange(taker, away_seconds=0.0)
    with pytest.raises(PeerUnreachable if isinstance(error, Unavailable) else type(error)):
        await exchange.fetch(giver.identity.peer_id, ref_of(b"1234"), tmp_path / "got")
    assert (tmp_path / "got.part").read_bytes() == b"12"
