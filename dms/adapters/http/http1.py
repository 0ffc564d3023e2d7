"""HTTP/1.1 as RFC 9112 has it, in place of Sanic's own reading of requests: what the standard allows is taken
(an empty line before a request, codings in any case, chunk extensions, targets with a host), and what it forbids is
answered at once with a body that says why. What a client may send in small pieces is counted, and between the pieces
others get the loop.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sanic.compat import Header
from sanic.exceptions import BadRequest, ExpectationFailed, PayloadTooLarge
from sanic.headers import format_http1_response
from sanic.helpers import has_message_body
from sanic.http import Http, Stage
from sanic.http.http1 import HTTP_CONTINUE

from dms.adapters.http.problems import Refused

MOST_EMPTY_LINES = 8  # before a request
MOST_CHUNKS = 4096  # of one body
CHUNKS_A_TURN = 64  # then others get the loop
MOST_LINE_BYTES = 1024  # of a chunk's size with its extensions
MOST_TRAILER_BYTES = 8192
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION = re.compile(r"HTTP/1\.([0-9])")
_TARGET = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(;.*)?", re.DOTALL)
_NEVER_IN_A_HEAD = re.compile(rb"\x00|(?<!\r)\n|\r(?!\n|\Z)")
_SCHEMES = ("http", "https")


class Head(NamedTuple):
    """target: in origin form. length: of the body; None: it is chunked."""

    method: str
    target: str
    minor: int
    headers: list[tuple[str, str]]
    length: int | None
    keep_alive: bool


def parse_head(head: bytes) -> Head:
    """Raises BadRequest, or Refused (501) for what is right but not done here."""
    line, *fields = head.decode(errors="replace").split("\r\n")
    words = line.split(" ")
    version = _VERSION.fullmatch(words[-1])
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]):
        raise BadRequest("a request begins with a line such as: GET /livez HTTP/1.1")
    if version is None:
        raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if words[0] == "CONNECT":
        raise Refused(501, "this server is no proxy: there is no CONNECT")
    headers, minor = [_field(text) for text in fields], min(1, int(version[1]))
    target, host = _target(words[0], words[1])
    if host is not None:  # the standard has it win over the header
        headers = [(name, value) for name, value in headers if name != "host"] + [("host", host)]
    if minor == 0:
        headers = [(name, value) for name, value in headers if name != "upgrade"]
        if not any(name == "host" for name, _ in headers):  # no browser speaks HTTP/1.0, so no name was turned to us
            headers.append(("host", "localhost"))
    options = {
        option.strip().casefold() for name, text in headers if name == "connection" for option in text.split(",")
    }
    # An upgrade that is refused ends the connection: who knows what the client sends behind it.
    keep_alive = not options & {"close", "upgrade"} and (minor == 1 or "keep-alive" in options)
    return Head(words[0], target, minor, headers, _length(headers, minor), keep_alive)


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
        raise BadRequest("a header is a name, a colon and a value on one line, without control characters")
    return name.lower(), value.strip(" \t")


def _target(method: str, text: str) -> tuple[str, str | None]:
    """In origin form, and the host that it named. Source: RFC 9112, section 3.2."""
    if not _TARGET.fullmatch(text):
        raise BadRequest("the address of a request may only have ASCII characters; others as %hh")
    if text.startswith("/"):
        return text, None
    if text == "*" and method == "OPTIONS":
        return "/", None
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme in _SCHEMES and parts.netloc and "@" not in parts.netloc:
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), parts.netloc
    raise BadRequest("the address of a request begins with / or with http://")


def _length(headers: list[tuple[str, str]], minor: int) -> int | None:
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if len(lengths) + len(codings) > 1 or (codings and minor == 0):
        raise BadRequest("the length of the body is told in more than one way")
    if codings:
        if codings[0].casefold() != "chunked":
            raise Refused(501, "the only transfer coding that is understood is chunked")
        return None
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise BadRequest("Content-Length is not a number of bytes")
    return int(lengths[0]) if lengths else 0


class Http1(Http):
    """Sanic's cycle of request and answer with our reading of the one and our head of the other."""

    # Sanic's own types of these are of one moment only.
    request_body: Any  # "chunked", whether there is (more of) one, or None
    request_bytes: Any
    request_bytes_left: Any
    request_max_size: Any
    response_func: Any
    request: Any
    __slots__ = ("chunks", "minor")

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)  # type: ignore[no-untyped-call]
        self.minor, self.chunks = 1, 0

    async def http1_request_header(self) -> None:
        self.minor, self.chunks = 1, 0
        await asyncio.sleep(0)  # many requests in one packet are a turn each
        raw = await self._head()
        self.head_only = raw.startswith(b"HEAD ")
        head = parse_head(raw)
        self.minor, self.keep_alive = head.minor, head.keep_alive and self.protocol.app.config.KEEP_ALIVE
        headers = Header(head.headers)
        request = self.protocol.request_class(
            url_bytes=head.target.encode(),
            headers=headers,
            head=raw,
            version=f"1.{head.minor}",
            method=head.method,
            transport=self.protocol.transport,  # type: ignore[arg-type]  # a head came, so it is there
            app=self.protocol.app,
        )
        self.protocol.request_class._current.set(request)  # noqa: SLF001  # as Sanic's own parser does
        self.url = head.target
        self.upgrade_websocket = headers.getone("upgrade", "").lower() == "websocket"
        self.request, request.stream = request, self
        self.protocol.state["requests_count"] += 1
        self._expect_body(head, headers)

    def _expect_body(self, head: Head, headers: Header) -> None:
        self.request_bytes = self.request_bytes_left = head.length or 0
        self.request_body = "chunked" if head.length is None else head.length > 0
        expect = headers.getone("expect", "")
        if self.request_body and expect and head.minor:
            if expect.lower() != "100-continue":
                raise ExpectationFailed(f"Unknown Expect: {expect[:64]}")
            self.expecting_continue = True

    async def _head(self) -> bytes:
        """The next request's, without the empty line that ends it. Raises BadRequest as soon as it can't be one."""
        buf, empty, seen = self.recv_buffer, 0, 0
        while True:
            while not seen and buf[:2] == b"\r\n" and empty < MOST_EMPTY_LINES:
                del buf[:2]
                empty += 1
            end = buf.find(b"\r\n\r\n", max(0, seen - 3))
            if _NEVER_IN_A_HEAD.search(buf, max(0, seen - 1), len(buf) if end < 0 else end):
                raise BadRequest("a request has no NUL, and each line of its head ends with CR LF")
            if (len(buf) if end < 0 else end) > self.HEADER_MAX_SIZE:
                raise PayloadTooLarge("Request header exceeds the size limit")
            if end >= 0:
                head = bytes(buf[:end])
                del buf[: end + 4]
                return head
            seen = len(buf) if buf not in (b"\r", b"") else 0
            await self._receive_more()

    async def read(self) -> bytes | None:
        """The next bytes of the body; None at its end."""
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        if self.request_body == "chunked" and not self.request_bytes_left:
            self.request_bytes_left = await self._chunk()
            self.request_bytes += self.request_bytes_left
        if self.request_bytes > self.request_max_size:
            self.keep_alive = False
            raise PayloadTooLarge("Request body exceeds the size limit")
        if not self.request_bytes_left:
            self.request_body = None
            return None
        if not self.recv_buffer:
            await self._receive_more()
        data = bytes(self.recv_buffer[: self.request_bytes_left])
        del self.recv_buffer[: len(data)]
        self.request_bytes_left -= len(data)
        if self.request_body == "chunked" and not self.request_bytes_left:
            await self._end_of_chunk()
        return data

    async def _chunk(self) -> int:
        """The size of the next one; 0 behind the last, whose trailer is read and dropped."""
        self.chunks += 1
        if self.chunks > MOST_CHUNKS:
            self.keep_alive = False
            raise PayloadTooLarge(f"the body comes in more than {MOST_CHUNKS} chunks")
        if self.chunks % CHUNKS_A_TURN == 0:
            await asyncio.sleep(0)
        found = _CHUNK.fullmatch(await self._line(MOST_LINE_BYTES))
        if found is None:
            raise self._broken()
        size = int(found[1], 16)
        left = MOST_TRAILER_BYTES
        while not size and (line := await self._line(left)):
            left -= len(line)
        return size

    async def _end_of_chunk(self) -> None:
        if await self._line(0):
            raise self._broken()

    async def _line(self, most: int) -> bytes:
        """Up to the next CR LF, which is dropped."""
        buf, seen = self.recv_buffer, 0
        while (end := buf.find(b"\r\n", max(0, seen - 1))) < 0 and len(buf) <= most + 1:
            seen = len(buf)
            await self._receive_more()
        if not 0 <= end <= most or b"\n" in buf[:end]:
            raise self._broken()
        line = bytes(buf[:end])
        del buf[: end + 2]
        return line

    def _broken(self) -> BadRequest:
        self.keep_alive = False
        self.request_body = None  # where the next request would begin nobody can tell
        return BadRequest("Bad chunked encoding")

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """The head of the answer, with its body where that is all there."""
        response = self.response
        body: bytes | None = getattr(response, "body", None)
        if not data and body:
            data, end_stream = body, True
        headers = response.headers
        self.response_size = len(data)
        if not has_message_body(response.status):
            self.response_func = None
            data, end_stream = b"", True
            headers.pop("content-length", None)
        elif self.head_only and "content-length" in headers:
            self.response_func = None
        elif end_stream:
            headers["content-length"] = len(data)
            self.response_func = None
        elif "content-length" in headers:
            self.response_bytes_left = int(headers["content-length"]) - len(data)
            self.response_func = self.http1_response_normal
        elif self.minor == 0:  # it knows no chunks: the body ends with the connection
            self.keep_alive = False
            self.response_func = self._until_the_end
        else:
            headers["transfer-encoding"] = "chunked"
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            self.response_func = self.http1_response_chunked
        if self.head_only:
            data = b""
            self.response_func = self.head_response_ignored
        if self.expecting_continue:  # it has not sent its body, and need not any more
            self.expecting_continue = self.keep_alive = False
            self.request_body = None
        headers["connection"] = "keep-alive" if self.keep_alive else "close"
        head = format_http1_response(response.status, _without_none(response.processed_headers))
        await self._send(head + data)
        self.stage = Stage.IDLE if end_stream else Stage.RESPONSE

    async def _until_the_end(self, data: bytes, end_stream: bool) -> None:
        if data:
            await self._send(data)
        if end_stream:
            self.response_func = None
            self.stage = Stage.IDLE


def _without_none(headers: Any) -> list[tuple[bytes, bytes]]:
    """An answer without a body has no type, which Sanic writes out as a word."""
    return [(name, value) for name, value in headers if (name, value) != (b"content-type", b"None")]
