"""Whoever may no more is heard no more: what is open by a token or a session ends with it, and what came by it and was
not taken is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from dms.adapters.http import sessions
from dms.domain.api_token import ApiToken, Role
from tests.fixtures.other_users import Answer, ask
from tests.integration.http.node import Node, running_node
from tests.integration.http.test_floods import HANDSHAKE, TEXT, frame
from tests.security.access_world import API, World

COMMANDS = 95  # below what a socket may send in a minute
DAY_SECONDS = 24 * 3600
Headers = dict[str, str]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def asked(node: Node, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answer:
    """As root, who needs no token."""
    return await ask(("127.0.0.1", node.port), method, API + path, body, uid=0, headers=headers)


async def logged_in(node: Node, token: str) -> Headers:
    login = await asked(node, "POST", "/session", {"token": token})
    return {"cookie": login.headers["set-cookie"].partition(";")[0]}


def payments(job_id: str) -> bytes:
    """Of as many transactions, one frame each, as a client sends them in one write."""
    reported = [
        {"transaction_type": "fund", "transaction_status": "pending", "tx_hash": f"{n:064x}", "job_id": job_id}
        for n in range(COMMANDS)
    ]
    return b"".join(
        frame(TEXT, msgspec.json.encode({"action": "send-status", "message": message})) for message in reported
    )


async def ended(socket: ClientConnection) -> int | None:
    """The code that it was closed with."""
    await asyncio.wait_for(socket.wait_closed(), 120)
    return socket.close_code


# --- tokens ------------------------------------------------------------------------------------------
async def test_commands_that_wait_when_their_token_is_revoked_are_not_taken(node: Node) -> None:
    """One may be on its way into the log already. The client never answers our close."""
    token = await node.services.tokens.create("team-a", Role.SPD)
    job_id = await World(node).job("team-a")
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    handshake = HANDSHAKE.format(path="/run/deploy").replace("\r\n\r\n", f"\r\nAuthorization: Bearer {token}\r\n\r\n")
    writer.write(handshake.encode() + payments(job_id))
    while not any(connection.socket and connection.socket._inbox for connection in node.connections):
        await asyncio.sleep(0)
    assert (await asked(node, "DELETE", f"/tokens/{token.token_id}")).status == 200
    async with asyncio.timeout(120):
        while any(connection.socket and connection.socket._inbox for connection in node.connections):
            await asyncio.sleep(0.01)
    events = await node.log.read(0, 1000)
    revoked = next(event.position for event in events if event.topic == ApiToken.Revoked.TOPIC)
    assert sum(event.position > revoked and event.correlation_id == job_id for event in events) <= 1
    writer.transport.abort()


async def test_who_revokes_the_own_token_is_told_so(node: Node) -> None:
    token = await node.services.tokens.create("ops", Role.ADMIN)
    headers = {"authorization": f"Bearer {token}"}
    assert (await asked(node, "DELETE", f"/tokens/{token.token_id}", headers=headers)).status == 200
    assert (await asked(node, "GET", "/jobs", headers=headers)).status == 401


# --- sessions ----------------------------------------------------------------------------------------
async def test_what_a_browser_has_open_ends_when_it_logs_out(node: Node) -> None:
    token = str(await node.services.tokens.create("ops", Role.ADMIN))
    cookie, other = await logged_in(node, token), await logged_in(node, token)
    async with (
        node.connect(path=f"{API}/live/ws", additional_headers=cookie) as live,
        node.connect(additional_headers=cookie) as deploy,
        node.connect(path=f"{API}/live/ws", additional_headers=other) as others,
        node.client(headers=cookie) as client,
        client.stream("GET", f"{API}/events?follow=true") as events,
    ):
        assert (await asked(node, "DELETE", "/session", headers=cookie)).status == 200
        assert (await ended(live), await ended(deploy)) == (1008, 1008)
        with pytest.raises(httpx.RemoteProtocolError):  # no end of its own
            async with asyncio.timeout(120):
                await events.aread()
        await others.send("{}")
        async with asyncio.timeout(120):
            while '"error"' not in str(await others.recv()):
                continue


async def test_a_session_ends_in_its_time_and_takes_what_it_has_open_with_it(node: Node) -> None:
    token = str(await node.services.tokens.create("ops", Role.ADMIN))
    cookie = await logged_in(node, token)
    async with (
        node.connect(path=f"{API}/live/ws", additional_headers=cookie) as silent,
        node.connect(additional_headers=cookie) as speaking,
    ):
        node.app.ctx.access.sessions._seconds = lambda: time.monotonic() + DAY_SECONDS
        with suppress(websockets.ConnectionClosed):
            await speaking.send("{}")
        assert await ended(speaking) == 1008, "what it says is not taken, whether or not anybody has looked"
        node.app.ctx.cut_off()  # which the server does every LOOK_SECONDS
        assert await ended(silent) == 1008


async def test_log_ins_of_one_token_end_only_its_own_oldest(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_OF_A_TOKEN", 3)
    operators = await logged_in(node, str(await node.services.tokens.create("ops", Role.ADMIN)))
    token = str(await node.services.tokens.create("team-a", Role.SPD))
    first = await logged_in(node, token)
    async with node.connect(path=f"{API}/live/ws", additional_headers=first) as live:
        newest = [await logged_in(node, token) for _ in range(10)][-1]
        assert await ended(live) == 1008, "what it had open ends with it"
    answers = [await asked(node, "GET", "/session", headers=cookie) for cookie in (operators, newest, first)]
    assert [answer.json["by"] for answer in answers] == ["session", "session", "user"]
    assert len(node.app.ctx.access.sessions) == 4
