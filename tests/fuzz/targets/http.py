"""What clients send: heads, bodies, websockets, tokens; and what web servers answer that inputs are fetched from."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
from sanic.exceptions import SanicException
from websockets.protocol import State
from websockets.server import ServerProtocol

from dms import socket_owner
from dms.adapters.http import examples
from dms.adapters.http.connection import Socket
from dms.adapters.http.deploy import Incoming, StatusMessage, TerminateMessage
from dms.adapters.http.exposure import is_loopback
from dms.adapters.http.gate import Gate, _origin_of
from dms.adapters.http.http1 import Http1, parse_head
from dms.adapters.http.live import _name_in
from dms.adapters.http.live_messages import Asked, Unsubscribe
from dms.adapters.http.problems import Refused
from dms.adapters.http.replies import time_us
from dms.adapters.http.server import ROUTES
from dms.adapters.http.strict_json import convert, load, parse
from dms.adapters.http.thorough import read_thoroughly
from dms.adapters.web import files as web
from dms.application.inputs.own_inputs import path_of
from dms.domain.api_token import read_text
from dms.domain.inputs import Input, last_part, problems_of_inputs
from dms.domain.request import ServiceRequest
from dms.errors import DmsError, InputRefused, InvalidInput
from tests.fuzz.target import Target, split
from tests.fuzz.targets.peers import chosen, driven

BODIES = sorted({route.body for route in ROUTES if route.body is not None}, key=str)
REFUSED = (SanicException, Refused, InvalidInput)


# --- requests -----------------------------------------------------------------------------------------
def head(data: bytes) -> None:
    found = parse_head(data)
    assert found.target.startswith("/")
    assert found.minor in (0, 1)
    assert found.length is None or found.length >= 0
    assert not any("\n" in value or "\r" in value for _, value in found.headers)
    host = next((value for name, value in found.headers if name == "host"), "")
    Gate("127.0.0.1", (), ()).allows(_origin_of(host), host)


class _Cut(Http1):
    """A connection that ends behind what has come."""

    __slots__ = ()

    async def _receive_more(self) -> None:
        raise EOFError


def chunks(data: bytes) -> None:
    """A body in chunks, as far as it is there."""
    http: Any = _Cut.__new__(_Cut)
    http.recv_buffer, http.chunks, http.keep_alive = bytearray(data), 0, True

    async def all_of_them() -> None:
        while size := await http._chunk():
            assert size >= 0
            del http.recv_buffer[:size]
            await http._end_of_chunk()

    driven(all_of_them())


def body(data: bytes) -> None:
    kind, text = chosen(BODIES, data)
    found = parse(text, kind)
    assert parse(msgspec.json.encode(found), kind) == found


def request(data: bytes) -> None:
    """Of the one body that is looked at to its end."""
    read = read_thoroughly(data, ServiceRequest, examples.SERVICE_REQUEST)
    assert isinstance(read.value, ServiceRequest)
    assert len(read.problems) <= 64
    problems_of_inputs(read.value.params.inputs)


def texts(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    token = read_text(text)
    assert token is None or str(token) == text.strip()
    is_loopback(text)
    end = socket_owner.end_of((text, 1))
    if end is not None:
        socket_owner._in_table(end)
    time_us(text)


# --- websockets ---------------------------------------------------------------------------------------
def live(data: bytes) -> None:
    tree = load(data)
    _name_in(tree)
    if isinstance(tree, dict) and "unsubscribe" in tree:
        convert(tree, Unsubscribe)
    else:
        kind: Any = Asked
        convert(tree, kind)


def deploy(data: bytes) -> None:
    found = convert(load(data), Incoming)
    for kind in (StatusMessage, TerminateMessage):
        convert(found.message, kind)


class _Transport:
    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class _Connection:
    transport = _Transport()


_LOOP = asyncio.new_event_loop()


def socket(data: bytes) -> None:
    """Frames of a client."""

    async def fed() -> None:
        class Upgraded:
            ws_proto = ServerProtocol(max_size=1 << 20)

        Upgraded.ws_proto.state = State.OPEN
        upgraded, connection = Upgraded(), _Connection()
        one = Socket(upgraded, connection)  # type: ignore[arg-type]
        for piece in split(data):
            one.feed(piece)
        one.connection_lost()
        assert one._unheard <= 1 << 21

    _LOOP.run_until_complete(fed())


# --- web servers --------------------------------------------------------------------------------------
def web_url(data: bytes) -> None:
    """Of an input, and where a server sends us."""
    url, _, location = data.decode("utf-8", "replace").partition("\n")
    last_part(url)
    wanted = Input(url=url, path="a")
    if not problems_of_inputs((wanted,)):  # which is what is asked first
        path_of(wanted)
    web.WebFiles().objection(url)
    found = web._next(web._parsed(url), location)
    assert found.scheme in ("http", "https")
    assert found.host


def web_head(data: bytes) -> None:
    headers = httpx.Headers(
        [(name, value.strip()) for name, _, value in (line.partition(b":") for line in data.split(b"\n")) if name]
    )
    web._retry_after(headers), web._length(headers), web._validator(headers), web._range_of(headers)


_WS_FRAME = (
    b"\x20" + b"\x81\x85\x01\x02\x03\x04" + bytes(a ^ b for a, b in zip(b"hello", b"\x01\x02\x03\x04\x01", strict=True))
)
TARGETS = (
    Target(
        "http-heads",
        head,
        REFUSED,
        (
            b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive",
            b"POST http://a/b?c HTTP/1.0\r\ncontent-length: 5\r\norigin: http://x",
            b"OPTIONS * HTTP/1.1",
            b"PUT /x HTTP/1.1\r\ntransfer-encoding: chunked\r\ncookie: dms_session_x=y; a=b",
        ),
    ),
    Target("http-chunks", chunks, (*REFUSED, EOFError), (b"5;x=y\r\nhello\r\n0\r\nt: r\r\n\r\n", b"1\r\na\r\n")),
    Target(
        "http-bodies",
        body,
        (InvalidInput,),
        tuple(bytes([number]) + b"{}" for number in range(len(BODIES)))
        + tuple(
            bytes([number]) + b'{"name":"a","role":"read","token":"x","peer_id":"p","is_available":true}'
            for number in range(len(BODIES))
        ),
    ),
    Target(
        "http-requests",
        request,
        (InvalidInput,),
        (msgspec.json.encode(examples.SERVICE_REQUEST), b'{"service_type":"ml-training-cpu","params":{"image_id":1}}'),
    ),
    Target(
        "http-texts",
        texts,
        (ValueError,),
        (
            b"dms_01890a5d-ac96-774b-bcce-b302099a8057_" + b"a" * 43,
            b"2026-01-01T00:00:00Z",
            b"127.0.0.1",
            b"[::1]",
            b"0001-01-01T00:00:00+23:59",
            b"9999-12-31T23:59:59-23:59",
        ),
    ),
    Target(
        "live-messages",
        live,
        (InvalidInput,),
        (
            b'{"subscribe":"events","id":"a","types":["job.*"]}',
            b'{"unsubscribe":true,"id":"a"}',
            b'{"subscribe":"output","id":"b","job_id":"01890a5d-ac96-774b-bcce-b302099a8057","after":3}',
        ),
    ),
    Target(
        "deploy-messages",
        deploy,
        (InvalidInput,),
        (
            b'{"action":"send-status","message":{"transaction_status":"success","tx_hash":"0x"}}',
            b'{"action":"terminate-job","message":{}}',
        ),
    ),
    Target("websocket-frames", socket, (), (_WS_FRAME, _WS_FRAME + b"\x89\x80\0\0\0\0" + b"\x88\x80\0\0\0\0")),
    Target(
        "web-urls",
        web_url,
        (InputRefused, DmsError),
        (
            b"https://a.example/b/c.zip?d#e\n../x",
            b"http://127.0.0.1:8/a\nhttps://b/",
            b"file:///etc/x\n",
            b"http://[::1\nx",
            b"http://a.example/\n//b.example",
        ),
    ),
    Target(
        "web-heads",
        web_head,
        (),
        (b'content-range: bytes 5-9/10\ncontent-length: 5\netag: "a"\nretry-after: 3',),
    ),
)
