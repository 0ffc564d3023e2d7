"""Files of the web, fetched with httpcore: the part of httpx that lets us say how a connection is made. No proxy of the
environment is used, since only who connects can look at where it leads."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from functools import cached_property
from http import HTTPStatus

import certifi
import httpcore
import httpx

from dms.adapters.web.outside import INNER, Outside
from dms.application.ports.web import WebTrouble
from dms.domain.inner_addresses import Network, is_inner_address
from dms.domain.inputs import WEB, shown
from dms.errors import InputRefused

MOST_REDIRECTS = 5
AT_ONCE = 256
HEAD_SECONDS = 60.0  # for all redirects together
SILENT_SECONDS = 30.0
CONNECT_SECONDS = 10.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429)  # of 4xx
_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19}|\*)")
_TIMEOUTS = {"connect": CONNECT_SECONDS, "read": SILENT_SECONDS, "write": SILENT_SECONDS, "pool": SILENT_SECONDS}


class WebFiles:
    """Satisfies Web."""

    def __init__(self, allowed: Sequence[Network] = (), user_agent: str = "nunet-dms") -> None:
        """allowed: inner networks that may be reached all the same."""
        self._allowed, self._outside = allowed, Outside(allowed)
        self._headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}

    @cached_property
    def _pool(self) -> httpcore.AsyncConnectionPool:
        """Made when it is needed: reading all certificates takes a while."""
        context = ssl.create_default_context()  # the system's: in-house stores have their own authority there
        context.load_verify_locations(certifi.where())
        return httpcore.AsyncConnectionPool(
            ssl_context=context, max_connections=AT_ONCE, max_keepalive_connections=0, network_backend=self._outside
        )

    async def close(self) -> None:
        if "_pool" in self.__dict__:
            await self._pool.aclose()

    def objection(self, url: str) -> str:
        host = _parsed(url).host
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return f"{host} {INNER}" if host == "localhost" and is_inner_address("127.0.0.1", self._allowed) else ""
        return f"{host} {INNER}" if is_inner_address(host, self._allowed) else ""

    @asynccontextmanager
    async def open(self, url: str, after: int = 0, validator: str = "") -> AsyncIterator[WebAnswer]:
        headers = dict(self._headers)
        if after:
            headers["Range"] = f"bytes={after}-"
            if validator:
                headers["If-Range"] = validator
        async with AsyncExitStack() as answering:
            with _troubles(_parsed(url).host):
                async with asyncio.timeout(HEAD_SECONDS):
                    head = await self._follow(url, headers, answering)
                    if after and _is_other_part(head, after, validator):
                        await answering.aclose()
                        head, after = await self._follow(url, self._headers, answering), 0
            yield _answer(url, head, after)

    async def _follow(self, url: str, headers: Mapping[str, str], answering: AsyncExitStack) -> _Head:
        """The first answer that sends us nowhere else. answering: closes it."""
        at = _parsed(url)
        for _ in range(MOST_REDIRECTS + 1):
            async with AsyncExitStack() as hop:
                with _troubles(at.host):
                    stream = self._pool.stream(
                        "GET", _address(at), headers=[*headers.items()], extensions={"timeout": _TIMEOUTS}
                    )
                    head = _Head(await hop.enter_async_context(stream))
                if head.status not in _REDIRECTS or "location" not in head.headers:
                    answering.push_async_exit(hop.pop_all())
                    return head
                at = _next(at, head.headers["location"])
        raise InputRefused(f"{shown(url)} is redirected more than {MOST_REDIRECTS} times")


class _Head:
    """Status and headers; of repeated ones the first."""

    def __init__(self, response: httpcore.Response) -> None:
        self.response, self.status = response, response.status
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reversed(response.headers)
        }


class WebAnswer:
    """Satisfies WebFile."""

    def __init__(self, head: _Head, after: int, total_bytes: int | None, where: str) -> None:
        self.after, self.total_bytes = after, total_bytes
        self.validator = _validator(head.headers)
        self._response, self._where = head.response, where

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        got = self.after
        with _troubles(self._where):
            async with aclosing(self._response.aiter_stream()) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    got += len(piece)
                    yield piece
        if self.total_bytes is not None and got != self.total_bytes:
            raise WebTrouble(f"{self._where} ended after {got} of {self.total_bytes} bytes")


def _is_other_part(head: _Head, after: int, validator: str) -> bool:
    """Whether what was asked for is not there: of a file that has changed, or a server that knows no better."""
    if head.status != 206:
        return head.status == 416
    return _range_of(head.headers)[0] != after or bool(validator and _validator(head.headers) not in ("", validator))


def _answer(url: str, head: _Head, after: int) -> WebAnswer:
    where = shown(url)
    if head.status == 206 and after:
        return WebAnswer(head, after, _range_of(head.headers)[1], where)
    if head.status == 200:
        return WebAnswer(head, 0, _length(head.headers), where)
    said = f"{where} was answered with HTTP status {_status_text(head.status)}"
    if 400 <= head.status < 500 and head.status not in _PASSING:
        raise InputRefused(said)
    raise WebTrouble(said, _retry_after(head.headers))


def _parsed(url: str) -> httpx.URL:
    """Raises InputRefused."""
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise InputRefused(f"{shown(url)} is no URL") from error
    if found.scheme not in WEB or not found.host or found.userinfo:
        raise InputRefused(
            f"{shown(url)} is no URL that can be fetched: http or https, with a host, without a password"
        )
    return found


def _next(at: httpx.URL, location: str) -> httpx.URL:
    """Raises InputRefused."""
    try:
        found = _parsed(str(at.join(location)))
    except (httpx.InvalidURL, ValueError) as error:
        raise InputRefused(f"{at.host} redirects to something that is no URL") from error
    if at.scheme == "https" and found.scheme == "http":
        raise InputRefused(f"{at.host} redirects from https to http")
    return found


def _address(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@contextmanager
def _troubles(name: str) -> Iterator[None]:
    """What the library says against an answer may pass; a certificate that is not good will not."""
    try:
        yield
    except httpcore.ConnectError as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise InputRefused(f"the certificate of {name} is not good") from error
        raise WebTrouble(f"{name} can't be reached: {error}") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise WebTrouble(f"{name} broke off ({type(error).__name__})") from error
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise WebTrouble(f"{name} did not answer in time") from error


def _range_of(headers: Mapping[str, str]) -> tuple[int, int | None]:
    """(first byte, size of the whole); -1 for what can't be read."""
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _validator(headers: Mapping[str, str]) -> str:
    """What If-Range takes: a strong tag, or a date. Source: RFC 9110, section 13.1.5."""
    tag = headers.get("etag", "")
    if tag:
        return "" if tag.startswith("W/") else tag[:512]
    return headers.get("last-modified", "")[:128]


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds, bounded; a date counts as none."""
    text = headers.get("retry-after", "")
    return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if text.isascii() and text.isdigit() else 0.0


def _status_text(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)
