"""Files between the users of two daemons, over the documented websockets and REST."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson
import pytest
import websockets

from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.files.file_exchange import FILE
from dms.application.network.messages import FILE_END, FILE_OFFER, FileEnd, FileOffer, encode
from dms.domain.event import new_id
from dms.domain.transfer import TransferState
from dms.errors import Forbidden, InvalidInput, NotFound
from tests.fixtures.described import message_of
from tests.fixtures.dms import Dms
from tests.fixtures.file_pair import Pair
from tests.fixtures.local_peers import LOCAL

GIGABYTE = 1_000_000_000
LARGE_BYTES = int(os.environ.get("LARGE_FILE_BYTES", "300000000"))  # half of it is more than memory may grow by
MOST_GROWTH_KB = 64 * 1024


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    try:
        await pair.start()
        yield pair
    finally:
        pair.end()


def websocket(dms: Dms, path: str, **query: object) -> Any:
    return websockets.connect(f"ws://{dms.host}:{dms.rest_port}/api/v1{path}?{urlencode(query)}", compression=None)


async def all_frames(socket: Any, seconds: float = 120) -> list[str]:
    async with asyncio.timeout(seconds):
        return [frame async for frame in socket]


async def test_the_documented_websockets_send_and_accept_a_file(pair: Pair) -> None:
    content = os.urandom(30_000_000)
    path = pair.give(content, "model weights.bin")
    async with websocket(pair.sender, "/peers/file/send", peerID=pair.receiver_id, filePath=path) as sending:
        first = orjson.loads(await asyncio.wait_for(sending.recv(), 120))
        assert first == {"message": "File Transfer Initiated. Transfer will start when peer accepts it."}
        text = await pair.receiver.get("/peers/file")
        time_line, name_line, size_line = text.splitlines()
        assert time_line.startswith("Time: ")
        assert [name_line, size_line] == ["File Name: model weights.bin", "File Size: 30000000 bytes"]
        async with websocket(pair.receiver, "/peers/file/accept", streamID=0) as accepting:
            got = await all_frames(accepting)
        sent = await all_frames(sending)
    into = pair.receiver.folder / "received_files" / "model weights.bin"
    assert orjson.loads(got[0]) == {"message": "File Transfer Accepted."}
    assert got[-2:] == ["transfer complete", f"File saved to: {into}"]
    assert sent[-1] == "transfer complete"
    told = {message_of("api.v1.peers.file.accept", frame) for frame in got}
    assert {*told, *(message_of("api.v1.peers.file.send", frame) for frame in sent)} == {"message", "progress", "text"}
    for frame in got[1:-2] + sent[:-1]:
        progress = orjson.loads(frame)
        assert set(progress) == {"remaining_time", "percentage", "size"}
        assert progress["size"] == "30.00 MB"
        assert progress["percentage"].endswith(" %")
    assert into.read_bytes() == content
    assert await pair.receiver.get("/peers/file") == []
    for dms, direction in ((pair.sender, "out"), (pair.receiver, "in")):
        (item,) = (await dms.get("/peers/files"))["items"]
        assert (item["state"], item["direction"], item["done_bytes"]) == ("completed", direction, 30_000_000)
        assert item["sha256"] == hashlib.sha256(content).hexdigest()


async def test_offers_are_refused_all_at_once_and_both_sides_know(pair: Pair) -> None:
    ids = [await pair.offer(pair.give(b"x", name)) for name in ("one", "two")]
    assert [t["stream_id"] for t in (await pair.receiver.get("/peers/files"))["items"]] == [1, 0]
    answer = await pair.receiver.get("/peers/file/clear")
    assert answer["message"] == "Successfully Cleard Inbound File Transfer Requests."
    assert answer["cleared"] == 2
    for transfer_id in ids:
        assert (await pair.until(pair.sender, transfer_id, "cancelled"))["reason"] == "refused by the receiver"
    assert (await pair.receiver.post("/peers/file/clear", None))["cleared"] == 0


async def test_received_names_are_plain_and_never_overwrite(pair: Pair) -> None:
    contents = [os.urandom(10) for _ in range(3)]
    for content in contents:
        transfer_id = await pair.offer(pair.give(content, "..notes.tar.gz"))
        await pair.receiver.post("/peers/file/accept", {"StreamID": "0"}, 202)
        await pair.until(pair.receiver, transfer_id, "completed")
        await pair.until(pair.sender, transfer_id, "completed")
    names = ["notes.tar (1).gz", "notes.tar (2).gz", "notes.tar.gz"]
    assert pair.received() == names
    folder = pair.receiver.folder / "received_files"
    assert [(folder / name).read_bytes() for name in (names[2], names[0], names[1])] == contents
    async with asyncio.timeout(120):  # what a transfer needed is removed once its end is recorded
        while list((folder / ".incoming").iterdir()):
            await asyncio.sleep(0.05)


async def test_a_hostile_peers_name_stays_a_name_and_its_offers_stay_its_own(pair: Pair) -> None:
    stranger = Libp2pNetwork(Identity.generate(), LOCAL)
    content = b"harmless"

    async def give(_peer_id: str, _body: bytes) -> AsyncGenerator[bytes, None]:
        yield content

    stranger.serve_stream(FILE, give, raw=True)
    await stranger.start()
    try:
        stranger.add_addresses(pair.receiver_id, [await pair.receiver.address()])
        own = await pair.offer(pair.give(b"x"))  # of the sender
        for transfer_id, refused in ((own, Forbidden), (new_id(), None)):
            offer = FileOffer(
                transfer_id=transfer_id,
                name="../../../../\x1b[31m/.ssh/\u202eauthorized_keys",
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
            asked = stranger.request(pair.receiver_id, FILE_OFFER, encode(offer), 10)
            if refused is not None:
                with pytest.raises(refused):
                    await asked
                continue
            await asked
            await pair.receiver.post("/peers/file/accept", {"streamID": transfer_id}, 202)
            await pair.until(pair.receiver, transfer_id, "completed")
        end = FileEnd(transfer_id=own, state=TransferState.CANCELLED)
        with pytest.raises(NotFound):
            await stranger.request(pair.receiver_id, FILE_END, encode(end), 10)
        with pytest.raises(InvalidInput):
            await stranger.request(pair.receiver_id, FILE_OFFER, b'{"transfer_id": "../x"}', 10)
    finally:
        await stranger.close()
    assert pair.received() == ["authorized_keys"]
    assert (await pair.state(pair.receiver, own))["state"] == "offered"


async def test_what_must_not_be_sent_is_refused(pair: Pair, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    (pair.shared / "link").symlink_to(outside)
    (pair.shared / "folder").mkdir()
    os.mkfifo(pair.shared / "fifo")
    own_key = pair.sender.folder / "node.key"
    cases: list[tuple[str, str, int]] = [
        (pair.receiver_id, str(outside), 403),
        (pair.receiver_id, str(pair.shared / "link"), 403),
        (pair.receiver_id, str(pair.shared / ".." / "secret"), 403),
        (pair.receiver_id, str(own_key), 403),
        (pair.receiver_id, str(pair.shared / "folder"), 403),
        (pair.receiver_id, str(pair.shared / "fifo"), 403),
        (pair.receiver_id, str(pair.shared / "none"), 404),
        (pair.receiver_id, "relative", 400),
        (pair.receiver_id, "", 400),
        ("", str(outside), 400),
        ("nonsense", str(outside), 400),
        (pair.sender_id, str(outside), 400),
    ]
    async with httpx.AsyncClient(timeout=120) as client:
        for peer_id, path, status in cases:
            body = {"peerID": peer_id, "filePath": path}
            answer = await client.post(f"{pair.sender.url}/api/v1/peers/file/send", json=body)
            assert answer.status_code == status, (path, answer.text)
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with websocket(pair.sender, "/peers/file/send", peerID=peer_id, filePath=path):
                    raise AssertionError("not refused")
            assert refused.value.response.status_code == status
    assert await pair.receiver.get("/peers/file") == []
    assert (await pair.sender.get("/peers/files"))["items"] == []


async def test_bad_numbers_of_offers_are_refused_as_by_the_original(pair: Pair) -> None:
    async with httpx.AsyncClient(base_url=f"{pair.receiver.url}/api/v1", timeout=120) as client:
        for given, text in (
            ("", "Stream ID not provided"),
            ("x", "Invalid Stream ID: x"),
            ("3", "Unknown Stream ID: 3"),
        ):
            answer = await client.post("/peers/file/accept", json={"streamID": given})
            assert (answer.status_code, answer.json()["error"]) == (400, text)


async def test_a_peer_may_have_only_a_few_offers_waiting(pair: Pair) -> None:
    for number in range(5):
        await pair.offer(pair.give(b"x", f"file{number}"))
    body = {"peerID": pair.receiver_id, "filePath": str(pair.give(b"x", "one more"))}
    answer = await pair.sender.post("/peers/file/send", body, 409)
    assert "wait for a decision" in answer["error"]
    assert (await pair.sender.get("/peers/files"))["items"][0]["state"] == "failed"


@pytest.mark.slow
async def test_a_file_that_is_too_large_and_a_flood_of_offers_are_refused(tmp_path: Path) -> None:
    pair = Pair(tmp_path, **{"files.max_mb": "1"})
    try:
        await pair.start()
        large = {"peerID": pair.receiver_id, "filePath": str(pair.give(bytes(1_048_577), "large"))}
        assert "1048576 at most" in (await pair.sender.post("/peers/file/send", large, 400))["error"]
        small = pair.give(bytes(1_048_576), "small")
        for _ in range(60):
            await pair.offer(small)
            await pair.receiver.post("/peers/file/clear", None)
        body = {"peerID": pair.receiver_id, "filePath": str(small)}
        assert "try again later" in (await pair.sender.post("/peers/file/send", body, 409))["error"]
    finally:
        pair.end()


@pytest.mark.slow
async def test_a_cancelled_transfer_stops_on_both_sides(pair: Pair) -> None:
    path = pair.shared / "endless"
    with path.open("wb") as file:
        file.truncate(GIGABYTE)
    transfer_id = await pair.offer(path)
    await pair.receiver.post("/peers/file/accept", {"streamID": transfer_id}, 202)
    while (await pair.state(pair.receiver, transfer_id))["done_bytes"] == 0:
        await asyncio.sleep(0.02)
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.delete(f"{pair.sender.url}/api/v1/peers/files/{transfer_id}")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert (await pair.until(pair.receiver, transfer_id, "cancelled"))["reason"] == "cancelled by the sender"
    incoming = pair.receiver.folder / "received_files" / ".incoming"
    async with asyncio.timeout(120):
        while list(incoming.iterdir()):
            await asyncio.sleep(0.02)
    assert pair.received() == []


async def test_a_file_that_changes_after_the_offer_is_not_taken(pair: Pair) -> None:
    transfer_id = await pair.offer(pair.give(b"as offered"))
    pair.give(b"as changed")
    await pair.receiver.post("/peers/file/accept", {}, 202)
    seen = await pair.until(pair.receiver, transfer_id, "failed")
    assert "another content" in seen["reason"]
    assert (await pair.until(pair.sender, transfer_id, "failed"))["reason"] == seen["reason"]
    assert pair.received() == []


@pytest.mark.slow
async def test_offers_and_transfers_survive_kills_of_both_sides(pair: Pair) -> None:
    content = os.urandom(200_000_000)
    path = pair.give(content)
    transfer_id = await pair.offer(path)
    pair.receiver.kill9()
    pair.sender.kill9()
    pair.receiver.start()
    await pair.receiver.ready()
    await pair.receiver.post("/peers/file/accept", {"streamID": 0}, 202)  # while the sender is away
    pair.sender.start()
    await pair.sender.ready()
    while (await pair.state(pair.receiver, transfer_id))["done_bytes"] < 20_000_000:
        await asyncio.sleep(0.01)
    pair.sender.kill9()
    pair.sender.start()
    await pair.sender.ready()
    await pair.until(pair.receiver, transfer_id, "completed", 120)
    await pair.until(pair.sender, transfer_id, "completed", 120)
    assert (pair.receiver.folder / "received_files" / "data.bin").read_bytes() == content


# --- the large one ----------------------------------------------------------------------------------------
def memory_kb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(f"no {field}")


class Memory:
    """Growth of a process's peak since now."""

    def __init__(self, dms: Dms) -> None:
        self._pid = dms.pid
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # the peak begins anew
        self._at_first = memory_kb(self._pid, "VmRSS")

    def growth_kb(self) -> int:
        return memory_kb(self._pid, "VmHWM") - self._at_first


def large_file(path: Path) -> str:
    """Mostly a hole, with random bytes here and there; its digest."""
    with path.open("wb") as file:
        file.truncate(LARGE_BYTES)
        for offset in range(0, LARGE_BYTES, 10_000_000):
            file.seek(offset)
            file.write(os.urandom(4096))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.slow
async def test_a_large_file_survives_a_kill_of_its_receiver_at_half_in_flat_memory(pair: Pair) -> None:
    path = pair.shared / "large.bin"
    sha256 = await asyncio.to_thread(large_file, path)
    sender, receiver = Memory(pair.sender), Memory(pair.receiver)
    transfer_id = await pair.offer(path)
    await pair.receiver.post("/peers/file/accept", {"streamID": 0}, 202)
    part = pair.receiver.folder / "received_files" / ".incoming" / f"{transfer_id}.part"
    async with asyncio.timeout(120):
        while not part.exists() or part.stat().st_size < LARGE_BYTES // 2:
            await asyncio.sleep(0.01)
    growth = receiver.growth_kb()
    pair.receiver.kill9()
    kept = part.stat().st_size
    assert LARGE_BYTES // 2 <= kept < LARGE_BYTES
    assert pair.received() == []  # nothing appears before it is whole and checked

    pair.receiver.start()
    await pair.receiver.ready()
    receiver = Memory(pair.receiver)
    while not (began_with := (await pair.state(pair.receiver, transfer_id))["done_bytes"]):
        await asyncio.sleep(0.01)
    await pair.until(pair.receiver, transfer_id, "completed", 120)
    await pair.until(pair.sender, transfer_id, "completed", 120)
    with (pair.receiver.folder / "received_files" / "large.bin").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == sha256
    assert began_with >= kept  # what was there did not go over again
    figures = {"sender": sender.growth_kb(), "receiver": growth, "receiver after the kill": receiver.growth_kb()}
    assert all(kb < MOST_GROWTH_KB for kb in figures.values()), figures
