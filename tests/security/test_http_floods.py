"""Clients that ask slowly, for too much, or for too many sockets are refused or cut, and others served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import websockets

from dms.adapters.http import connection_counts, server, streams
from tests.fixtures.dms import Dms, running_dms
from tests.fixtures.other_users import socket_of
from tests.integration.http.node import Node, running_node

HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_A_BODY = (
    b"POST /api/v1/onboarding/onboard HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 1000\r\n\r\n{"cpu": 1'
)
MIB = 2**20
KINDLY = 120.0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def dms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dms]:
    with running_dms(tmp_path_factory.mktemp("dms"), **{"job.executor": "process"}) as one:
        yield one


@pytest.fixture
def dms_of_few_files(tmp_path: Path) -> Iterator[Dms]:
    """It may open 1,024, as in a careful shell."""
    one = Dms(tmp_path, settings={"job.executor": "process"})
    one.start()
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    try:
        asyncio.run(one.ready())
        yield one
    finally:
        one.end()


async def test_500_half_requests_hold_up_nobody_and_are_all_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an honest client waits meanwhile is measured by `python -m ops.bench connections`, beside 1,000 of them."""
    assert server.ARRIVE_SECONDS <= 10
    monkeypatch.setattr(server, "ARRIVE_SECONDS", 3)
    async with running_node(tmp_path) as node, node.client() as client:
        slow = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", node.port) for _ in range(500)))
        for number, (_, writer) in enumerate(slow):
            writer.write(HALF_A_BODY if number % 2 else HALF_A_HEAD)
        async with asyncio.timeout(KINDLY):
            ends = asyncio.gather(*(reader.read() for reader, _ in slow), return_exceptions=True)
            while not ends.done():  # others are served all the while
                assert (await client.get("/livez")).status_code == 200
            answers = await ends
        texts = [answer[:12] for answer in answers if isinstance(answer, bytes)]
        assert set(texts) <= {b"", b"HTTP/1.1 408"}
        assert all(isinstance(answer, bytes | OSError) for answer in answers)
        for _, writer in slow:
            writer.close()


async def test_beyond_the_last_websocket_of_all_there_is_none(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m ops.bench connections` opens as many as there may be."""
    assert streams.MOST_SOCKETS >= 10_000
    monkeypatch.setattr(streams, "MOST_SOCKETS", 5)
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(5):
            await opened.enter_async_context(node.connect(path="/api/v1/live/ws"))
        with pytest.raises(websockets.InvalidStatus) as refused:
            await node.connect(path="/api/v1/run/deploy")
        assert refused.value.response.status_code == 503
        async with node.client() as client:
            assert (await client.get("/livez")).status_code == 200
    async with asyncio.timeout(KINDLY):
        while True:  # until the server has seen that they are gone
            with contextlib.suppress(websockets.InvalidStatus):
                async with node.connect(path="/api/v1/live/ws"):
                    return
            await asyncio.sleep(0.01)


async def test_an_address_of_elsewhere_has_its_share_of_connections(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nobody alone can use up all files that the daemon may have open."""
    monkeypatch.setattr(connection_counts, "MOST_OF_AN_ADDRESS", 3)
    monkeypatch.setattr(connection_counts, "is_loopback", lambda _: False)  # as if we were elsewhere
    idle = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(3)]
    reader, refused = await asyncio.open_connection("127.0.0.1", node.port)
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(KINDLY):
            assert await reader.read() == b""
    assert all(not one.at_eof() for one, _ in idle)
    for writer in (refused, *(writer for _, writer in idle)):
        writer.close()
    async with asyncio.timeout(KINDLY), node.client() as client:
        while True:  # until the server has seen that they are gone
            with contextlib.suppress(httpx.TransportError):
                assert (await client.get("/livez")).status_code == 200
                break
    assert len(node.app.ctx.connection_counts) <= 1


OTHER, ANOTHER = 61_001, 61_002


async def idle(port: int, uid: int, most: int) -> list[socket.socket]:
    """Connections of that user that are held: no more than `most` are tried, and none behind one that was closed."""
    held: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    for _ in range(most):
        made = socket_of(uid)
        await loop.sock_connect(made, ("127.0.0.1", port))
        held.append(made)
        await loop.sock_sendall(made, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(KINDLY):
                if await loop.sock_recv(made, 4096):
                    continue
        held.pop().close()
        break
    return held


async def test_other_users_of_the_machine_leave_the_operator_its_connections(dms_of_few_files: Dms) -> None:
    """Descriptors are left as well: what a request opens, opens."""
    port, held = dms_of_few_files.rest_port, list[socket.socket]()
    try:
        for uid in range(61_001, 61_010):
            found = await idle(port, uid, 400)
            assert len(found) <= 128, "a quarter of half of the files"
            held += found
        assert len(held) == 384
        async with httpx.AsyncClient(base_url=dms_of_few_files.url, timeout=KINDLY) as operator:
            assert (await operator.get("/api/v1/jobs")).status_code == 200
        mine = await idle(port, 0, 400)
        assert 100 <= len(mine) <= 128
        held += mine
        assert psutil.Process(dms_of_few_files.pid).num_fds() < 1024 - 256
    finally:
        for one in held:
            one.close()


async def test_an_address_of_elsewhere_has_its_share_of_websockets(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_OF_AN_ADDRESS", 2)
    monkeypatch.setattr(streams, "is_loopback", lambda _: False)  # as if we were elsewhere
    async with node.connect(path="/api/v1/live/ws"), node.connect(path="/api/v1/live/ws"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await node.connect(path="/api/v1/live/ws")
        assert refused.value.response.status_code == 429


def post(length: str) -> bytes:
    return (
        b"POST /api/v1/onboarding/onboard HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + length.encode()
        + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        (post(f"Content-Length: {257 * 1024}"), 257 * 1024),
        (post(f"Content-Length: {101 * MIB}"), 0),  # refused by what it says, before a byte of it
        (post(f"Content-Length: {10**12}"), 0),
        (post("Transfer-Encoding: chunked") + b"%x\r\n" % (101 * MIB), 0),
        (post("Transfer-Encoding: chunked") + b"%x\r\n" % (257 * 1024), 257 * 1024),
    ],
    ids=["257 KiB", "101 MiB", "1 TB", "101 MiB in a chunk", "257 KiB in a chunk"],
)
async def test_a_body_beyond_the_bound_is_refused_at_once_and_kept_nowhere(dms: Dms, head: bytes, sent: int) -> None:
    before, memory = dms.head(), psutil.Process(dms.pid).memory_info().rss

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", dms.rest_port)
        async with asyncio.timeout(KINDLY):
            with contextlib.suppress(OSError):
                writer.write(head + b"x" * sent)
                await writer.drain()
            try:
                return await reader.read(12)
            except ConnectionResetError:  # it had said so, and we were still sending
                return b"HTTP/1.1 413"
            finally:
                writer.close()

    answers = await asyncio.gather(*(one() for _ in range(50)))
    assert set(answers) == {b"HTTP/1.1 413"}
    assert dms.head() == before
    assert psutil.Process(dms.pid).memory_info().rss - memory < 20 * MIB
