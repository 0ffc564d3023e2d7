"""Whatever stays open, websocket, followed events or followed output, counts by one rule: each client has its share,
and the operator's places are taken by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import websockets

from dms.adapters.http import streams
from dms.adapters.http.streams import Kind
from dms.config import Rest
from dms.domain.api_token import Role
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, running_node
from tests.security.access_world import API

SOCKETS = ("/run/deploy", f"{API}/live/ws", f"{API}/events/ws")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, Rest(max_sockets=5)) as running:
        yield running


class Client:
    """Opens what stays open, until the stack is closed."""

    def __init__(self, node: Node, opened: AsyncExitStack, token: str = "") -> None:
        self._node, self._opened = node, opened
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def follow(self, path: str) -> int:
        """The status; of what is let in the head alone is read."""
        client = await self._opened.enter_async_context(self._node.client(headers=self._headers))
        answer = await self._opened.enter_async_context(client.stream("GET", path))
        return answer.status_code

    async def connect(self, path: str) -> int:
        try:
            connecting = self._node.connect(path=path, additional_headers=self._headers)
            await self._opened.enter_async_context(connecting)
        except websockets.InvalidStatus as refused:
            return refused.response.status_code
        return 101


async def ways(node: Node) -> tuple[str, ...]:
    """What can be followed over plain HTTP."""
    log_path = node.app.ctx.live.api.log_path(await node.job())
    return (f"{API}/events?follow=true", f"{log_path}&follow=true")


async def test_each_client_has_so_many_of_all_kinds_together(node: Node) -> None:
    token = str(await node.services.tokens.create("team-a", Role.SPD))
    other = str(await node.services.tokens.create("team-b", Role.SPD))
    followed = await ways(node)
    async with AsyncExitStack() as opened:
        client = Client(node, opened, token)
        assert [await client.connect(path) for path in SOCKETS] == [101] * 3
        assert [await client.follow(path) for path in followed] == [200] * 2
        assert [await client.connect(path) for path in SOCKETS] == [429] * 3
        assert [await client.follow(path) for path in followed] == [429] * 2
        assert await Client(node, opened, other).connect(SOCKETS[0]) == 101
    await wait_for(lambda: not node.app.ctx.live.api.streams._of)


async def test_others_leave_the_operator_its_places(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 4)
    monkeypatch.setattr(streams, "KEPT", 2)
    tokens = [str(await node.services.tokens.create(name, Role.SPD)) for name in ("team-a", "team-b")]
    followed = await ways(node)
    async with AsyncExitStack() as opened:
        clients = [Client(node, opened, token) for token in tokens]
        assert [await client.follow(followed[0]) for client in clients] == [200, 200]
        for client in clients:
            assert [await client.follow(path) for path in followed] == [503, 503]
            assert [await client.connect(path) for path in SOCKETS[1:]] == [503, 503]
        operator = Client(node, opened)
        assert await operator.connect(f"{API}/live/ws") == 101
        assert await operator.follow(followed[0]) == 200


async def test_what_is_refused_or_breaks_off_gives_its_place_back(node: Node) -> None:
    places = node.app.ctx.live.api.streams
    token = str(await node.services.tokens.create("team-a", Role.SPD))
    async with AsyncExitStack() as opened:
        client = Client(node, opened, token)
        for _ in range(6):
            assert await client.connect("/run/deploy?job_id=0198c0de-1c00-7000-8000-0000000000a1") == 404
            assert await client.connect(f"{API}/events/ws?after=1000000") == 400
            assert await client.follow(f"{API}/events?after=1000000") == 400
        _, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(b"GET /run/deploy HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n")  # no handshake
        await writer.drain()
    writer.close()
    await wait_for(lambda: not any(places.open(kind) for kind in Kind) and not places._of)
