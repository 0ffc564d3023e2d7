"""Chat and the default provider between two daemons, over the documented addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
import websockets

from dms.adapters.p2p.identity import Identity
from tests.fixtures.dms import Dms, request_body

SETTINGS = {"job.executor": "process", "job.allow_process_for_peers": "true"}


class Two:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.b = Dms(folder / "b", settings=SETTINGS)

    async def start(self) -> None:
        self.b.start()
        await self.b.ready()
        self.a = Dms(self.folder / "a", settings=SETTINGS, bootstrap=[await self.b.address()])
        self.a.start()
        await self.a.ready()
        self.a_id, self.b_id = [(await dms.get("/peers/self"))["ID"] for dms in (self.a, self.b)]
        async with asyncio.timeout(120):
            while not await self.a.get("/peers"):
                await asyncio.sleep(0.05)

    def end(self) -> None:
        for dms in (self.b, getattr(self, "a", None)):
            if dms is not None:
                dms.end()


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    two = Two(tmp_path)
    try:
        await two.start()
        yield two
    finally:
        two.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    """For tests that end their chats and neither daemon."""
    two = Two(tmp_path_factory.mktemp("shared"))
    try:
        await two.start()
        yield two
    finally:
        two.end()


def chat(dms: Dms, path: str, **query: object) -> Any:
    return websockets.connect(f"ws://{dms.host}:{dms.rest_port}/api/v1/peers/chat/{path}?{urlencode(query)}")


async def next_of(socket: Any) -> str:
    async with asyncio.timeout(120):
        return str(await socket.recv())


async def until_closed(socket: Any) -> list[str]:
    async with asyncio.timeout(120):
        return [frame async for frame in socket]


async def until_waiting(dms: Dms, count: int) -> list[Any]:
    async with asyncio.timeout(120):
        while len(found := await dms.get("/peers/chat")) != count:
            await asyncio.sleep(0.02)
    return list(found)


async def test_two_users_talk_and_either_may_leave(shared: Two) -> None:
    for leaver in ("starter", "joiner"):
        async with chat(shared.a, "start", peerID=shared.b_id) as starter:
            (waiting,) = await until_waiting(shared.b, 1)
            assert (waiting["id"], waiting["from_peer"]) == (0, shared.a_id)
            assert await next_of(starter) == (
                f"Enter the message that you wish to send to {shared.b_id} with stream ID: {waiting['stream_id']} "
                "and press return."
            )
            await starter.send("sent before anybody joined")
            async with chat(shared.b, "join", streamID=0) as joiner:
                assert await next_of(joiner) == "Enter the message that you wish to send and press return."
                assert await next_of(joiner) == "Peer: sent before anybody joined"
                assert await shared.b.get("/peers/chat") == []
                await joiner.send("grüße\n")
                assert await next_of(starter) == "Peer: grüße"
                for number in range(30):
                    await starter.send(f"line {number}")
                assert [await next_of(joiner) for _ in range(30)] == [f"Peer: line {n}" for n in range(30)]
                await (starter if leaver == "starter" else joiner).send("bye")
                first, other = (starter, joiner) if leaver == "starter" else (joiner, starter)
                assert await next_of(other) == "Peer: bye"
                await first.close()
                assert await until_closed(other) == []


async def test_a_fourth_chat_is_refused_until_those_that_wait_are_cleared(shared: Two) -> None:
    sockets = [await chat(shared.a, "start", peerID=shared.b_id) for _ in range(3)]
    await until_waiting(shared.b, 3)
    with pytest.raises(websockets.InvalidStatus) as refused:
        await chat(shared.a, "start", peerID=shared.b_id)
    assert refused.value.response.status_code == 400
    assert b"Unable to Accept Chat Request. Closing." in (refused.value.response.body or b"")
    answer = await shared.b.get("/peers/chat/clear")
    assert answer == {"message": "Successfully Cleard Inbound Chat Requests.", "cleared": 3}
    for socket in sockets:
        assert len(await until_closed(socket)) == 1  # only the greeting
    assert await shared.b.get("/peers/chat") == []


async def test_a_chat_ends_when_the_other_daemon_dies(two: Two) -> None:
    async with chat(two.a, "start", peerID=two.b_id) as starter, chat(two.b, "join", streamID=0) as joiner:
        await next_of(starter), await next_of(joiner)
        two.a.kill9()
        assert await until_closed(joiner) == []
    two.a.start()
    await two.a.ready()
    assert await two.b.get("/peers/chat") == []


async def test_lines_are_bounded_and_so_is_what_waits_to_be_read(shared: Two) -> None:
    async with chat(shared.a, "start", peerID=shared.b_id) as starter:
        await next_of(starter)
        await starter.send("x" * 4097)
        assert "at most 4096" in await next_of(starter)
        for number in range(99):  # a hundred messages a minute are heard of one socket
            await starter.send(f"line {number}")
        async with chat(shared.b, "join", streamID=0) as joiner:
            await next_of(joiner)
            assert [await next_of(joiner) for _ in range(99)] == [f"Peer: line {n}" for n in range(99)]


async def test_bad_requests_are_refused_with_the_originals_texts(shared: Two) -> None:
    stranger = Identity.generate().peer_id
    for path, query, text in (
        ("start", {}, "peerID not provided"),
        ("start", {"peerID": "x"}, "Could not decode string ID to peerID"),
        ("start", {"peerID": shared.a_id}, "peerID can not be self peerID"),
        ("start", {"peerID": stranger}, "Could not create stream with peer - "),
        ("join", {}, "Stream ID not provided"),
        ("join", {"streamID": "x"}, "Invalid Stream ID: x"),
        ("join", {"id": "7"}, "Unknown Stream ID: 7"),
    ):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await chat(shared.a, path, **query)
        assert refused.value.response.status_code == 400
        assert text in (refused.value.response.body or b"").decode()


async def sees_providers(dms: Dms, count: int) -> None:
    async with asyncio.timeout(120):
        while len(await dms.get("/peers/dht")) < count:
            await asyncio.sleep(0.05)


async def test_the_default_provider_gets_the_requests_also_after_a_restart(
    two: Two, request: pytest.FixtureRequest
) -> None:
    async def depreq(**query: str) -> tuple[int, str]:
        async with httpx.AsyncClient(timeout=120) as client:
            answer = await client.get(f"{two.a.url}/api/v1/peers/depreq", params=query)
            body = answer.json()
            return answer.status_code, body["error"] if "error" in body else body["message"]

    assert await depreq() == (200, "no default peer set")
    assert await depreq(peerID=two.a_id) == (400, "peerID can not be self peerID")
    assert await depreq(peerID="x") == (400, "Could not decode string ID to peerID")
    status, text = await depreq(peerID=two.b_id)  # connected, but it offers nothing
    assert (status, text.splitlines()[0]) == (400, "Peer not in DHT yet.")
    cheaper = Dms(two.folder / "c", settings=SETTINGS, bootstrap=[await two.b.address()])
    cheaper.start()
    request.addfinalizer(cheaper.end)
    await cheaper.ready()
    await cheaper.onboard(ntx_price=0)
    await two.b.onboard(ntx_price=2)
    await sees_providers(two.a, 2)
    offered = await two.a.post("/run/request-service", request_body("true", VRAM=0))
    assert offered["compute_provider_id"] != two.b_id
    done = f"Successfully set {two.b_id} as default deployment request receiver."
    assert await depreq(peerID=two.b_id) == (200, done)
    two.a.kill9()
    two.a.start()
    await two.a.ready()
    assert await depreq() == (200, f"default peer is {two.b_id}")
    await sees_providers(two.a, 2)
    quote = await two.a.post("/run/request-service", request_body("true", VRAM=0))
    assert quote["compute_provider_id"] == two.b_id
    two.b.kill9()
    async with asyncio.timeout(120):
        while two.b_id in [peer["ID"] for peer in await two.a.get("/peers")]:
            await asyncio.sleep(0.05)
    assert await depreq(peerID=two.b_id) == (400, "Peer not online.")
    async with httpx.AsyncClient(timeout=120) as client:
        url = f"{two.a.url}/api/v1/peers/depreq"
        assert (await client.post(url, json={"peerID": "0"})).json()["message"] == "default peer successfully removed"
        assert (await client.delete(url)).json() == {"message": "default peer successfully removed", "peer_id": ""}
    assert await depreq(peerID="0") == (200, "default peer successfully removed")
    assert await depreq() == (200, "no default peer set")
