"""What is said of a mistake in the query: which parameter it is, and what is expected there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import websockets

from tests.integration.http.node import Node, running_node

API = "/api/v1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def test_a_flag_that_is_none_is_named(node: Node) -> None:
    async with node.client() as client:
        for method, path, name in (
            ("GET", "/events?follow=zz", "follow"),
            ("POST", "/onboarding/offboard?force=zz", "force"),
            ("GET", "/events?personal=zz", "personal"),
        ):
            answer = await client.request(method, API + path)
            assert answer.status_code == 400
            what = "expected true or false, got 'zz'"
            assert answer.json()["error"] == f"invalid query data: query parameter {name}: {what}"
            assert answer.json()["errors"] == [{"pointer": f"?{name}", "detail": what}]


async def test_what_is_given_in_the_query_is_pointed_at_there_and_in_the_body_there(node: Node) -> None:
    async with node.client() as client:
        answers = [
            await client.get(f"{API}/peers/depreq?peerID=abc"),
            await client.post(f"{API}/peers/depreq", json={"peerID": "abc"}),
            await client.post(f"{API}/peers/file/accept", json={"streamID": "abc"}),
        ]
    assert [answer.json()["errors"][0]["pointer"] for answer in answers] == ["?peerID", "/peerID", "/streamID"]


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/peers/chat/start?peerID=abc", "?peerID"),
        ("/peers/file/send?peerID=abc&filePath=/a", "?peerID"),
        ("/peers/file/send?peerID=12D3KooWMHkAktSX7UWtGzEo8VtUh8d7LGdQFnK3yDH9NS7vH6Aq&filePath=a", "?filePath"),
        ("/peers/file/accept?streamID=abc", "?streamID"),
    ],
)
async def test_a_websocket_s_query_is_pointed_at(node: Node, path: str, pointer: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://127.0.0.1:{node.port}{API}{path}")
    body = json.loads(refused.value.response.body or b"")
    assert (body["status"], body["errors"][0]["pointer"]) == (400, pointer)
