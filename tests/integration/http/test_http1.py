"""HTTP as the standard has it, byte by byte over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dms.adapters.http import connection as connection_module
from dms.adapters.http import http1
from dms.adapters.http.server import ROUTES, WEBSOCKETS
from tests.integration.http.node import Node, running_node

HOST = "Host: localhost\r\n"
JSON_TYPE = "Content-Type: application/json\r\n"
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
STATUS_BODY = b'{"is_available":true}'


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with running_node(tmp_path_factory.mktemp("node")) as running:
        yield running


async def say(node: Node, *parts: bytes, half_close: bool = False) -> bytes:
    """All that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if half_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 120)
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def get(path: str = "/livez", more: str = "Connection: close\r\n", version: str = "HTTP/1.1") -> bytes:
    return f"GET {path} {version}\r\n{HOST}{more}\r\n".encode()


def post(*chunks: bytes, coding: str = "chunked", end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"POST /api/v1/device/status HTTP/1.1\r\n{HOST}{JSON_TYPE}Transfer-Encoding: {coding}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + b"".join(chunks) + end


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "CHUNKED"])
@pytest.mark.parametrize("extension", [b"", b";a", b" ; a=b", b';a="b;c";d=' + b"e" * 200])
async def test_chunks_are_taken_as_the_standard_has_them(node: Node, coding: str, extension: bytes) -> None:
    halves = chunk(STATUS_BODY[:5], extension), chunk(STATUS_BODY[5:], extension)
    whole = await say(node, post(*halves, coding=coding, end=b"0" + extension + b"\r\nA-Trailer: x\r\n\r\n"))
    assert (status(whole), json.loads(body(whole))["error"]) == (409, json.loads(body(await say(
        node, post(chunk(STATUS_BODY)))))["error"])  # fmt: skip  # it is not onboarded, so the body was read


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_body_may_come_byte_by_byte(node: Node, pieces: int) -> None:
    text = post(*(chunk(STATUS_BODY[i : i + pieces]) for i in range(0, len(STATUS_BODY), pieces)))
    assert status(await say(node, *(text[i : i + 1] for i in range(len(text))))) == 409


@pytest.mark.parametrize(
    "broken",
    [b"5\nabcde\r\n", b"-5\r\nabcde\r\n", b"+5\r\nabcde\r\n", b"0x5\r\nabcde\r\n", b"\r\n", b"5\r\nabcdefg\r\n",
     b"5;" + b"x" * 2000 + b"\r\nabcde\r\n", b"fffffffff\r\n"],
)  # fmt: skip
async def test_broken_chunks_are_a_400(node: Node, broken: bytes) -> None:
    answer = await say(node, post(broken))
    assert status(answer) == 400
    assert json.loads(body(answer))["error"] == "Bad chunked encoding"


@pytest.mark.parametrize("empty", ["\r\n", "\r\n\r\n\r\n"])
async def test_empty_lines_before_a_request_are_passed_over(node: Node, empty: str) -> None:
    first = get(more="")
    answer = await say(node, empty.encode(), first, empty.encode() + get())
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        (f"CONNECT example.org:443 HTTP/1.1\r\n{HOST}\r\n", 501),
        (f"OPTIONS * HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n", 204),
        (f"GET * HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"GET livez HTTP/1.1\r\n{HOST}\r\n", 400),
        ("GET http://localhost/livez?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        ("GET http://localhost HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 302),
        ("GET http://evil.example/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 421),
        ("GET http://[::1/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        ("GET ftp://localhost/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (f"GET //livez HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n", 404),
        (f"GET /livez HTTP/1.1\n{HOST}\r\n", 400),
        ("GET /livez HTTP/1.1\nHost: localhost\n\n", 400),
        (f"GET /livez HTTP/1.1\r\n{HOST}X: a\x00b\r\n\r\n", 400),
        (f"GET /livez HTTP/1.1\r\n{HOST}X: a\nb: c\r\n\r\n", 400),
        (f"GET /livez HTTP/1.1\r\n{HOST}X: a\rb\r\n\r\n", 400),
        (f"GET /livez HTTP/1.1\r\n{HOST}X: a\r\n folded\r\n\r\n", 400),
        (f"GET /livez HTTP/1.1\r\n{HOST}X : a\r\n\r\n", 400),
        (f"GET /livez HTTP/1.1\r\n{HOST}X\r\n\r\n", 400),
        (f"GET /li\x00vez HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"GET  /livez HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"G@T /livez HTTP/1.1\r\n{HOST}\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # the hello of TLS
        (f"POST /livez HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (f"POST /livez HTTP/1.1\r\n{HOST}Content-Length: 1_0\r\n\r\n", 400),
        (f"POST /livez HTTP/1.1\r\n{HOST}Content-Length: \xc2\xb2\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nHost: localhost\xff\r\nConnection: close\r\n\r\n", 421),
        (f"GET /livez HTTP/1.1\r\n{HOST}Origin: http://\xff\r\nConnection: close\r\n\r\n", 403),
        ("\r\n" * 100 + "GET /livez HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_what_is_odd_has_an_answer_at_once(node: Node, request_text: str, expected: int) -> None:
    answer = await say(node, request_text.encode("latin-1"))
    assert status(answer) == expected, answer
    if expected >= 400:
        found = json.loads(body(answer))
        assert found["status"] == expected
        assert found["error"]


async def test_an_old_client_gets_no_chunks_and_the_end_of_the_connection(node: Node) -> None:
    await node.job()
    modern = await say(node, get("/api/v1/events"))
    old = await say(node, get("/api/v1/events", "", "HTTP/1.0"))
    assert b"transfer-encoding: chunked" in modern
    assert b"transfer-encoding" not in old
    assert [json.loads(line)["position"] for line in body(old).split(b"\n")[:-1]] == [1]
    assert status(await say(node, b"GET /livez HTTP/1.0\r\n\r\n")) == 200  # it needs no Host
    assert status(await say(node, get("/run/deploy", UPGRADE + KEY, "HTTP/1.0"))) == 426


async def test_an_old_client_may_keep_the_connection_where_it_sees_the_end(node: Node) -> None:
    kept = get("/livez", "Connection: Keep-Alive\r\n", "HTTP/1.0")
    assert (await say(node, kept + kept + get("/livez", "", "HTTP/1.0"))).count(b"HTTP/1.1 200 OK") == 3


async def test_who_sends_no_more_is_answered(node: Node) -> None:
    await node.job()
    assert status(await say(node, get(more=""), half_close=True)) == 200
    assert (await say(node, get(more="") * 5, half_close=True)).count(b"HTTP/1.1 200 OK") == 5
    assert (await say(node, get("/api/v1/events", ""), half_close=True)).endswith(b"0\r\n\r\n")
    assert status(await say(node, post(chunk(STATUS_BODY)), half_close=True)) == 409


@pytest.mark.parametrize(
    "begun", [b"GET /livez HT", post(end=b""), post(b"5\r\nab", end=b""), get("/api/v1/events?follow=true", "")]
)
async def test_what_is_not_whole_when_the_client_ends_is_a_400(node: Node, begun: bytes) -> None:
    assert status(await say(node, begun, half_close=True)) == 400


async def test_a_client_that_leaves_between_requests_is_told_nothing(node: Node) -> None:
    assert await say(node, half_close=True) == b""
    await until_no_connections(node)


async def until_no_connections(node: Node) -> None:
    async with asyncio.timeout(120):
        while node.connections:
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_no_header_is_empty_or_none(node: Node) -> None:
    async with node.client() as client:
        for route in ROUTES:
            for method in ("GET", "HEAD", "OPTIONS") if route.method == "GET" else (route.method, "OPTIONS"):
                async with client.stream(method, route.address) as answer:
                    odd = {name: text for name, text in answer.headers.items() if text in ("", "None", "none")}
                    assert not odd, (method, route.address)


@pytest.mark.parametrize("ending", ["", "/"])
async def test_every_address_knows_whether_it_speaks_websocket(node: Node, ending: str) -> None:
    async with node.client() as client:
        for socket in WEBSOCKETS:
            assert (await client.get(socket.address + ending)).status_code == 426, socket.address
            answer = await say(node, get(socket.address + ending, UPGRADE))  # without a key
            assert status(answer) == 400, socket.address
            assert status(await say(node, get(socket.address + "/no/such" + ending, UPGRADE + KEY))) == 404
        for route in ROUTES:
            path = route.address.replace("<", "").replace(">", "") + ending
            answer = await say(node, get(path, UPGRADE + KEY).replace(b"GET", route.method.encode(), 1))
            assert status(answer) == 400, (route.address, answer)
            assert b"websocket" in body(answer)
    for path in ("/run/deploy", "/api/v1/run/deploy"):
        async with node.connect(path=path + ending) as ws:
            assert "connected" in str(await ws.recv())


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [("application/json; charset=utf8", 409), ("application/json;charset=UTF8", 409),
     ('application/json; charset="utf-8"', 409), ("application/json ; Charset=Utf-8 ; x=y", 409),
     ('application/json; x="a; charset=latin-1"', 409), ("application/json;", 409),
     ("application/json; charset=latin-1", 415), ("application/json; charset=utf-16", 415),
     ("application/json; charset=utf-8; charset=latin-1", 415), ("application/json, text/plain", 415)],
)  # fmt: skip
async def test_the_charset_is_utf_8_by_any_of_its_names(node: Node, content_type: str, expected: int) -> None:
    async with node.client() as client:
        answer = await client.post("/api/v1/device/status", content=STATUS_BODY, headers={"content-type": content_type})
    assert answer.status_code == expected


@pytest.mark.parametrize(("coding", "expected"), [("gzip", 415), ("br, gzip", 415), ("identity", 409), ("", 409)])
async def test_a_packed_body_is_refused_by_its_name(node: Node, coding: str, expected: int) -> None:
    async with node.client() as client:
        answer = await client.post(
            "/api/v1/device/status",
            content=b"\x1f\x8b" if expected == 415 else STATUS_BODY,
            headers={"content-type": "application/json", "content-encoding": coding},
        )
    assert answer.status_code == expected
    assert expected != 415 or ("content-encoding" in answer.json()["error"] and coding in answer.json()["error"])


NDJSON, SSE = "application/x-ndjson", "text/event-stream"


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ([], NDJSON),
        (["*/*"], NDJSON),
        (["text/*"], SSE),
        (["application/*"], NDJSON),
        (["text/html", "text/event-stream"], SSE),  # two lines are one list
        (["TEXT/Event-Stream"], SSE),
        ([f"{NDJSON};q=0.5, {SSE};q=0.8"], SSE),
        ([f"{NDJSON}, {SSE};q=0.8"], NDJSON),
        ([f"{SSE};q=0, */*"], NDJSON),
        ([f"{SSE}; q=0"], NDJSON),
        ([f"*/*, {NDJSON};q=0"], SSE),
        (["text/event-stream-of-mine"], NDJSON),
        (["text/html"], NDJSON),
        ([f"{NDJSON};q=0"], SSE),
        (["", ";;q=", "a"], NDJSON),
    ],
)
async def test_accept_is_read_as_the_standard_has_it(node: Node, accepted: list[str], expected: str) -> None:
    async with node.client() as client:
        del client.headers["accept"]
        answer = await client.get("/api/v1/events", headers=[("accept", text) for text in accepted])
        assert answer.headers["content-type"].startswith(expected)
        job = await node.job()
        path = f"/api/v1/jobs/{job}/logs?token={node.services.log_token(job)}"
        answer = await client.get(path, headers=[("accept", f"text/html, {NDJSON};q=0, text/plain;q=0.1")])
        assert answer.headers["content-type"].startswith("text/plain")
        answer = await client.get("/metrics", headers=[("accept", "application/openmetrics-text;q=0.1, text/plain")])
        assert answer.headers["content-type"].startswith("text/plain")


# --- what comes in small pieces, and what is not taken -------------------------------------------------------


async def alive(node: Node) -> None:
    assert status(await say(node, get())) == 200


async def test_tiny_chunks_are_counted_and_others_get_the_loop(node: Node) -> None:
    tiny = post(*[chunk(b" ")] * (http1.MOST_CHUNKS + 1))
    flood = [asyncio.create_task(say(node, tiny)) for _ in range(4)]
    await alive(node)
    assert {status(answer) for answer in await asyncio.gather(*flood)} == {413}


async def test_pipelined_requests_are_a_turn_each(node: Node) -> None:
    flood = asyncio.create_task(say(node, get(more="") * 3000, get()))
    await alive(node)
    assert not flood.done()  # it has not had the loop to itself
    assert (await flood).count(b"HTTP/1.1 200 OK") == 3001


async def test_a_big_answer_that_nobody_reads_is_bounded_and_given_up(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "STUCK_SECONDS", 0.3)
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's: it reads, too
    most = 0
    async with asyncio.timeout(120):
        writer.write(get("/openapi.json", "") * 500)
        while not most or node.connections:
            most = max([most, *(c.transport.get_write_buffer_size() for c in node.connections if c.transport)])
            await asyncio.sleep(0.01)
    assert 0 < most < 2_000_000
    await alive(node)
    writer.transport.abort()


async def test_what_is_cut_hard_leaves_nothing(node: Node) -> None:
    with sockets.create_connection(("127.0.0.1", node.port)) as client:
        client.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(get("/api/v1/events?follow=true", ""))
        assert await asyncio.to_thread(client.recv, 100)
    await until_no_connections(node)
