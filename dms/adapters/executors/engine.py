"""The engine's endless answers, log, wait and pull, read on the asyncio loop instead of in a thread.

A read that is stuck is ended by closing its socket, which cancelling does here; a thread inside the
SDK could not be interrupted. Each answer has its own connection, so none can hold up another.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from dms.adapters.executors.output import Dechunker
from dms.domain.decoding import UNREADABLE
from dms.errors import ConfigError, ExecutorUnavailable, NotFound

DEFAULT_BASE_URL = "unix:///var/run/docker.sock"
READ_BYTES = 65_536
REFUSAL_BYTES = 65_536
_CODE = re.compile(rb"[1-5][0-9][0-9]")
BUFFER_BYTES = 262_144  # beyond twice this the kernel's buffer fills and the engine waits


class EngineAddress(Struct, frozen=True):
    """Where the engine listens: a socket's path, or host and port."""

    base_url: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None


class EngineAnswer:
    """A streamed answer. `finished` tells whether it ended by itself or was cut. status: of HTTP."""

    def __init__(self, reader: asyncio.StreamReader, status: int) -> None:
        self.status = status
        self._reader = reader
        self._dechunker = Dechunker()

    @property
    def finished(self) -> bool:
        return self._dechunker.finished

    async def read(self) -> bytes:
        """The next payload bytes, b"" at the end."""
        while not self.finished:
            data = await self._reader.read(READ_BYTES)
            if not data:
                return b""
            if payload := self._dechunker.feed(data):
                return payload
        return b""

    async def raw(self) -> bytes:
        """Of a connection that was switched to another protocol: the next bytes, b"" at the end."""
        return await self._reader.read(READ_BYTES)

    async def refusal(self) -> str:
        """The engine's words, of an answer that is none of 200."""
        body = b""
        while len(body) < REFUSAL_BYTES and (more := await self._reader.read(READ_BYTES)):
            body += more
        try:
            return msgspec.json.decode(body, type=_Refusal).message.strip()
        except UNREADABLE:
            return f"HTTP status {self.status}"


class _Refusal(Struct):
    message: str


class Engine:
    """version: the API version, as the SDK negotiated it."""

    def __init__(self, address: EngineAddress, call_seconds: float) -> None:
        self._address = address
        self._call_seconds = call_seconds

    @asynccontextmanager
    async def open(self, version: str, method: str, path: str, query: Mapping[str, str]) -> AsyncIterator[EngineAnswer]:
        """The head must arrive within the call's time; the body may take for ever.
        Raises NotFound (no such container), ExecutorUnavailable."""
        async with self.ask(version, method, path, query, self._call_seconds) as answer:
            if answer.status in (404, 409):  # absent, or being removed
                raise NotFound(f"the engine has no {path}")
            if answer.status != 200:
                raise ExecutorUnavailable(f"the engine answered {path} with HTTP status {answer.status}")
            yield answer

    @asynccontextmanager
    async def ask(
        self,
        version: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        head_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[EngineAnswer]:
        """An answer of any status. head_seconds: None for no limit. Raises ExecutorUnavailable."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._call_seconds):
                reader, writer = await self._connect()
                writer.write(_request(method, f"/v{version}{quote(path)}", query, headers or {}))
                await writer.drain()
            async with asyncio.timeout(head_seconds):
                head = await reader.readuntil(b"\r\n\r\n")
            yield EngineAnswer(reader, _status(head, path))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ExecutorUnavailable(f"Docker does not answer at {self._address.base_url}: {error}") from error
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._address
        if address.path:
            return await asyncio.open_unix_connection(address.path, limit=BUFFER_BYTES)
        return await asyncio.open_connection(address.host, address.port, ssl=address.tls, limit=BUFFER_BYTES)


async def payloads(answer: EngineAnswer, quiet_seconds: float) -> AsyncGenerator[bytes, None]:
    """Payload bytes as they come; b"" each time that none came for quiet_seconds."""
    while True:
        data = b""
        try:
            async with asyncio.timeout(quiet_seconds):
                data = await answer.read()
        except TimeoutError:
            yield b""
            continue
        if not data:
            return
        yield data


def engine_address(base_url: str = "") -> EngineAddress:
    """base_url, else DOCKER_HOST, else the system's socket. Raises ConfigError."""
    url = base_url or os.environ.get("DOCKER_HOST", "") or DEFAULT_BASE_URL
    wrong = f"docker address {url!r} is not usable: expected unix:///path or tcp://host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{wrong} ({error})") from error
    if parts.scheme in {"unix", "http+unix"} and (parts.netloc or parts.path):
        return EngineAddress(base_url=url, path=(f"/{parts.netloc}" if parts.netloc else "") + parts.path)
    if parts.scheme in {"tcp", "http", "https"} and parts.hostname:
        tls = _client_tls() if parts.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY") else None
        return EngineAddress(base_url=url, host=parts.hostname, port=port or 2375, tls=tls)
    raise ConfigError(wrong)


def _client_tls() -> ssl.SSLContext:
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except OSError as error:
        raise ConfigError(f"DOCKER_CERT_PATH: no usable ca.pem, cert.pem, key.pem in {folder}: {error}") from error
    return context


def _request(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path}?{urlencode(query)} HTTP/1.1", "Host: docker", "Content-Length: 0", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _status(head: bytes, path: str) -> int:
    code = head.split(b" ", 2)[1:2]
    known = bool(code) and _CODE.fullmatch(code[0]) is not None
    if not known or (code == [b"200"] and b"transfer-encoding: chunked" not in head.lower()):
        first = head.partition(b"\r\n")[0][:200]
        raise ExecutorUnavailable(f"the engine answered {path} with {first!r}")
    return int(code[0])
