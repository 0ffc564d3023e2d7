"""Programs run inside of a running container, with their input and output over one connection of their own.

Blocking, for threads. Unlike an archive of the engine's own, whose unread answer holds a lock that every list of
containers waits for, a program that nobody reads any more holds up nothing but itself, until its time is over.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote

import msgspec

from dms.adapters.executors.engine import EngineAddress
from dms.errors import ExecutorUnavailable

_FRAME = struct.Struct(">BxxxL")  # stream, size: of the engine's multiplexed output
_STDOUT, _STDERR = 1, 2
_HEAD_BYTES = 16_384
_ERROR_BYTES = 4_096  # kept of what a program says on stderr
_READ_BYTES = 262_144
_SEND_BYTES = 262_144
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ExecStream:
    """What a started program says on its standard output; its words on stderr are kept, cut. `read` gives b"" once it
    has ended. Neither direction waits for the other: a program whose output nobody reads takes no input, either."""

    def __init__(self, connection: socket.socket, begun: bytes) -> None:
        self._connection = connection
        self._buffer = bytearray(begun)
        self._left, self._stream = 0, _STDOUT
        self._unsent, self._refused = memoryview(b""), False
        self._errors = bytearray()

    @property
    def errors(self) -> str:
        return self._errors.decode("utf-8", "replace").strip()

    def read(self, most: int) -> bytes:
        """Between 1 and `most` bytes; b"" at the end. Raises ExecutorUnavailable."""
        while (found := self._next(most)) is None:
            if not self._receive():
                if self._left or self._buffer:
                    raise ExecutorUnavailable("the container engine cut the output of a program short")
                return b""
        return found

    def finish(self) -> None:
        """Reads what is left, and forgets it."""
        while self.read(_READ_BYTES):
            pass

    def give(self, data: bytes) -> None:
        """To its standard input, while `read` reads. A program that takes no more of it says why, or just ends."""
        self._unsent = memoryview(data)

    def send(self, data: bytes) -> None:
        """To its standard input, at once; what it says on its standard output meanwhile is forgotten. Raises
        BrokenPipeError, ConnectionResetError when it takes no more."""
        self._unsent = memoryview(data)
        while self._unsent:
            came = self._exchange()
            if came == b"":
                raise BrokenPipeError("the program has ended")
            self._buffer += came or b""
            while self._next(_READ_BYTES) is not None:
                pass

    def end_input(self) -> None:
        """There is no more of it. Not SSLSocket's own shutdown, which would end the output's decryption as well."""
        socket.socket.shutdown(self._connection, socket.SHUT_WR)

    def _next(self, most: int) -> bytes | None:
        """Of what has come; None when more of it has to."""
        while True:
            if not self._left:
                if len(self._buffer) < _FRAME.size:
                    return None
                self._stream, self._left = _FRAME.unpack_from(self._buffer)
                del self._buffer[: _FRAME.size]
                continue
            if not self._buffer:
                return None
            piece = bytes(self._buffer[: min(self._left, most)])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            if self._stream == _STDOUT:
                return piece
            self._errors += piece[: max(0, _ERROR_BYTES - len(self._errors))]

    def _receive(self) -> bool:
        data = None
        while self._unsent and data is None:
            try:
                data = self._exchange()
            except (BrokenPipeError, ConnectionResetError):
                self._unsent, self._refused = memoryview(b""), True
        if data is None:
            data = self._rest()
        self._buffer += data
        return bool(data)

    def _rest(self) -> bytes:
        """When there is nothing to be sent. Input that was not taken makes a reset of the end, behind all output."""
        try:
            return self._connection.recv(_READ_BYTES)
        except ConnectionResetError:
            if not self._refused:
                raise
            return b""

    def _exchange(self) -> bytes | None:
        """Sends and receives what goes just now: waits until one does. None: nothing came yet. Raises TimeoutError."""
        quiet_seconds = self._connection.gettimeout()
        self._connection.setblocking(False)
        try:
            sent = self._send_some()
            with suppress(*_NOT_NOW):
                return self._connection.recv(_READ_BYTES)
            if not sent and not _is_ready(self._connection, quiet_seconds):
                raise TimeoutError
            return None
        finally:
            self._connection.settimeout(quiet_seconds)

    def _send_some(self) -> int:
        with suppress(*_NOT_NOW):
            sent = self._connection.send(self._unsent[:_SEND_BYTES])
            self._unsent = self._unsent[sent:]
            return sent
        return 0


def _is_ready(connection: socket.socket, seconds: float | None) -> bool:
    """Whether it takes or gives something within that time."""
    either = select.poll()  # select() knows no descriptor above 1023
    either.register(connection, select.POLLIN | select.POLLOUT)
    return bool(either.poll(None if seconds is None else seconds * 1000))


@contextmanager
def started(address: EngineAddress, version: str, exec_id: str, quiet_seconds: float) -> Iterator[ExecStream]:
    """Starts what was prepared as `exec_id`. quiet_seconds: how long it may say nothing. Raises
    ExecutorUnavailable."""
    try:
        with _connected(address, quiet_seconds) as connection:
            connection.sendall(_request(version, exec_id))
            yield ExecStream(connection, _past_the_head(connection))
    except TimeoutError as error:
        raise ExecutorUnavailable(f"a program in a container said nothing for {quiet_seconds:g} s") from error
    except OSError as error:
        raise ExecutorUnavailable(f"Docker does not answer at {address.base_url}: {error}") from error


def _connected(address: EngineAddress, seconds: float) -> socket.socket:
    if address.path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(seconds)
        try:
            connection.connect(address.path)
        except OSError:
            connection.close()
            raise
        return connection
    plain = socket.create_connection((address.host, address.port), seconds)
    return plain if address.tls is None else address.tls.wrap_socket(plain, server_hostname=address.host)


def _request(version: str, exec_id: str) -> bytes:
    body = msgspec.json.encode({"Detach": False, "Tty": False})
    head: Sequence[str] = (
        f"POST /v{version}/exec/{quote(exec_id)}/start HTTP/1.1",
        "Host: docker",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: Upgrade",
        "Upgrade: tcp",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _past_the_head(connection: socket.socket) -> bytes:
    """What came behind the engine's head, which must say that the connection is the program's now."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < _HEAD_BYTES and (more := connection.recv(_HEAD_BYTES)):
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] not in ([b"101"], [b"200"]):
        raise ExecutorUnavailable(f"the engine does not start a program: {head.splitlines()[:1]}")
    return rest
