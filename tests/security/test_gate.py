"""Who may speak to the server: strangers' web pages, rebound names and odd bodies are refused on every route
and on the websocket, and leave no trace in the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.http import dashboard, pages, sign_in
from dms.adapters.http.server import ROUTES
from dms.adapters.http.server import WEBSOCKETS as SOCKETS
from dms.config import Rest
from tests.integration.http.node import ADDRESS, SERVICE_BODY, Node, running_node

ALL_ROUTES = (*ROUTES, *pages.PAGES, *dashboard.PAGES, *sign_in.PAGES)
WEBSOCKETS = tuple(socket.address for socket in SOCKETS)
DASHBOARD = "http://localhost:9991"
ONBOARD = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}
FOREIGN_ORIGINS = (
    "https://evil.example",
    "null",
    "http://localhost.evil.example",
    "http://127.0.0.1:9999@evil",
    "http://localhost:9993",
    "https://localhost:9991",
    "http://localhost:9991.evil.example",
    "",
)
FOREIGN_HOSTS = ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "127.0.0.1:99999999", "", "a b", "[::2]")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with running_node(tmp_path_factory.mktemp("node"), Rest(allowed_hosts=("dms.example",))) as running:
        yield running


def concrete(path: str) -> str:
    return path.replace("<job_id>", "01900000-0000-7000-8000-000000000000").replace("<name>", "jobs")


async def raw(node: Node, text: str) -> bytes:
    """The answer to bytes that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        writer.write(text.encode("latin-1"))
        return await asyncio.wait_for(reader.read(), 120)
    finally:
        writer.close()


@pytest.mark.slow
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_a_foreign_origin_is_refused_on_every_route(node: Node, origin: str) -> None:
    before = node.log.head
    async with node.client(headers={"origin": origin}) as client:
        for route in ALL_ROUTES:
            answer = await client.request(route.method, concrete(route.address), json=ONBOARD)
            assert answer.status_code == 403, route
            assert "access-control-allow-origin" not in answer.headers
        assert (await client.options("/api/v1/jobs")).status_code == 403
    assert node.log.head == before


HOSTS = [f"Host: {host}\r\n" for host in FOREIGN_HOSTS]
NOT_ONE_HOST = ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nHost: evil.example\r\n"]


@pytest.mark.parametrize("headers", [*HOSTS, *NOT_ONE_HOST], ids=repr)
async def test_a_foreign_host_is_refused_on_every_route(node: Node, headers: str) -> None:
    """And none, and two."""
    before = node.log.head
    for route in ALL_ROUTES:
        answer = await raw(
            node, f"{route.method} {concrete(route.address)} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
        )
        assert answer.split()[1] in (b"421", b"403"), (route, answer[:200])
    assert node.log.head == before


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "[::1]:1", "dms.example", "dms.example:80"]
)
async def test_own_and_configured_names_are_served(node: Node, host: str) -> None:
    answer = await raw(node, f"GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.slow
@pytest.mark.parametrize("path", WEBSOCKETS)
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_a_foreign_page_gets_no_websocket(node: Node, path: str, origin: str) -> None:
    before = node.log.head
    with pytest.raises(websockets.InvalidStatus) as refused:
        await node.connect(path=path, additional_headers={"Origin": origin})
    assert refused.value.response.status_code == 403
    assert node.log.head == before


@pytest.mark.parametrize("headers", [*HOSTS, *NOT_ONE_HOST], ids=repr)
async def test_a_rebound_name_gets_no_websocket(node: Node, headers: str) -> None:
    for path in WEBSOCKETS:
        answer = await raw(
            node,
            f"GET {path} HTTP/1.1\r\n{headers}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 421"), path


async def test_own_pages_and_the_dashboards_may_open_a_websocket(node: Node) -> None:
    for origin in (node.url, DASHBOARD):
        async with node.connect(additional_headers={"Origin": origin}) as ws:
            assert b"connected" in (await ws.recv()).encode()


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", "",
                     "application/json; charset=utf-16"]
)  # fmt: skip
async def test_only_json_bodies_are_taken(node: Node, content_type: str) -> None:
    before = node.log.head
    body = json.dumps(ONBOARD)
    async with node.client() as client:
        for route in ALL_ROUTES:
            if route.method == "GET":
                continue
            headers = {"content-type": content_type} if content_type else {}
            answer = await client.request(route.method, concrete(route.address), content=body, headers=headers)
            assert answer.status_code == 415, route
        taken = await client.post(
            "/api/v1/onboarding/onboard", content=body, headers={"content-type": 'Application/JSON; charset="UTF-8"'}
        )
        assert taken.status_code == 200
    assert node.log.head == before + 1


async def test_a_cross_site_change_is_refused(node: Node) -> None:
    before = node.log.head
    async with node.client(headers={"sec-fetch-site": "cross-site"}) as client:
        for route in ALL_ROUTES:
            if route.method != "GET":
                answer = await client.request(route.method, concrete(route.address), json=ONBOARD)
                assert answer.status_code == 403, route
        assert (await client.get("/livez")).status_code == 200
    assert node.log.head == before


async def test_the_dashboards_preflight_and_answers_carry_cors(node: Node) -> None:
    async with node.client(headers={"origin": DASHBOARD}) as client:
        preflight = await client.options("/api/v1/onboarding/onboard")
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == DASHBOARD
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "Content-Type" in preflight.headers["access-control-allow-headers"]
        assert preflight.headers["access-control-max-age"] == "43200"
        answer = await client.get("/api/v1/jobs")
        assert answer.headers["access-control-allow-origin"] == DASHBOARD
        assert "access-control-allow-credentials" not in answer.headers
        missing = await client.get("/api/v1/nothing")
        assert missing.headers["access-control-allow-origin"] == DASHBOARD


@pytest.mark.parametrize(
    "text",
    [
        "TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /livez HTTP/2.7\r\nHost: localhost\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: ten\r\n\r\n",
        (
            "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
            "\r\n\r\n\r\nzz\r\n"
        ),
        "GARBAGE\r\n\r\n",
        "\x00\x01\x02\r\n\r\n",
        "GET /liv\xe9z HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        "TRACK / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
async def test_broken_http_is_a_4xx(node: Node, text: str) -> None:
    """Or a 501, which RFC 9112 (6.1) wants for a transfer coding that nobody knows."""
    answer = await raw(node, text)
    assert answer.split()[1].startswith(b"4") or (answer.split()[1] == b"501" and "Transfer-Encoding" in text), answer
    assert b"connection: close" in answer.lower(), "what follows is no request"
    assert b"Traceback" not in answer


ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just(ADDRESS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*ONBOARD, *SERVICE_BODY, "CPU", "reason", "is_available", "x"]), inner, max_size=6
        )
    ),
    max_leaves=15,
)


def changed(base: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A right body with one field made odd."""
    return st.tuples(st.sampled_from(sorted(base)), ODD_JSON).map(lambda change: {**base, change[0]: change[1]})


BODIES = (
    st.binary(max_size=300)
    | (ODD_JSON | changed(SERVICE_BODY) | changed(ONBOARD)).map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"[" * 100_000, b'{"a":1e999}', b'{"memory":' + b"9" * 5000 + b"}", b'{"channel":"\\ud800"}'])
)
CHANGING = [route for route in ROUTES if route.body is not None]
ODD_VALUES = {
    "nested too deep": b'{"a":' * 33 + b"1" + b"}" * 33,
    "nested without end": b"[" * 100_000,
    "no number": b"NaN",
    "infinite": b"-Infinity",
    "beyond all numbers": b"1e999",
    "5000 digits": b"9" * 5000,
    "half a character": b'"\\ud800"',
    "NUL": b'"a\\u0000b"',
    "no UTF-8": b'"\xff"',
    "of another type": b'[[{"x":[]}]]',
}


def odd_bodies(field: str) -> dict[str, bytes]:
    """field: that the route reads."""
    key = b'"' + field.encode() + b'":'
    bodies = {name: b"{" + key + value + b"}" for name, value in ODD_VALUES.items()}
    twice = b"{" + key + b'"a",' + key.upper() + b'"b"}'
    return bodies | {"twice": twice, "a byte order mark": b"\xef\xbb\xbf{}", "UTF-16": "{}".encode("utf-16")}


@pytest.mark.slow
async def test_each_kind_of_odd_json_is_a_400_on_every_route_that_takes_any(node: Node) -> None:
    before = node.log.head
    async with node.client(headers={"content-type": "application/json"}) as client:
        for route in CHANGING:
            field = next(iter(msgspec.structs.fields(cast("Any", route.body)))).encode_name
            for name, body in odd_bodies(field).items():
                answer = await client.request(route.method, concrete(route.address), content=body)
                unread = answer.status_code == route.status == 501
                assert unread or answer.status_code == 400, (route.address, name, answer.text)
                assert answer.json()["error"], (route.address, name)
    assert node.log.head == before


@pytest.mark.slow
async def test_1000_generated_bodies_are_never_our_fault(node: Node) -> None:
    bodies: list[tuple[int, bytes]] = []

    @settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(CHANGING) - 1), BODIES)
    def collect(route: int, body: bytes) -> None:
        bodies.append((route, body))

    collect()
    async with node.client(headers={"content-type": "application/json"}) as client:
        for number, body in bodies:
            route = CHANGING[number]
            answer = await client.request(route.method, concrete(route.address), content=body)
            assert answer.status_code < 500 or answer.status_code == route.status, (route.address, body)
            if answer.status_code >= 400:
                assert answer.json()["error"], (route.address, body)
