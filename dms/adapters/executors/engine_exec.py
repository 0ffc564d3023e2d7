"""Programs run inside of a running container, with their input and output over one connection of their own.

Blocking, for threads. Unlike an archive of the engine's own, whose unread answer holds a lock that every list of
containers waits for, a program that nobody reads any more holds up nothing but itself, until its time is over.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class ExecStream:
    """What a started program says on its standard output; its words on stderr are kept, cut. `read` gives b"" once it
    has ended."""

    def __init__(self, connection: socket.socket, begun: bytes) -> None:
        self._connection = connection
        self._buffer = bytearray(begun)
        self._left, self._stream = 0, _STDOUT
        self._errors = bytearray()

    @property
    def errors(self) -> str:
        return self._errors.decode("utf-8", "replace").strip()

    def read(self, most: int) -> bytes:
        """Between 1 and `most` bytes; b"" at the end. Raises ExecutorUnavailable."""
        while True:
            if not self._left and not self._next_frame():
                return b""
            if not self._buffer and not self._receive():
                raise ExecutorUnavailable("the container engine cut the output of a program short")
            piece = bytes(self._buffer[: min(self._left, most)])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            if self._stream == _STDOUT and piece:
                return piece
            self._errors += piece[: max(0, _ERROR_BYTES - len(self._errors))]

    def finish(self) -> None:
        """Reads what is left, and forgets it."""
        while self.read(_READ_BYTES):
            pass

    def send(self, data: bytes) -> None:
        """To its standard input. Raises BrokenPipeError, ConnectionResetError when it takes no more."""
        view = memoryview(data)
        while view:
            view = view[self._connection.send(view[:_SEND_BYTES]) :]

    def end_input(self) -> None:
        """There is no more of it. Not SSLSocket's own shutdown, which would end the output's decryption as well."""
        socket.socket.shutdown(self._connection, socket.SHUT_WR)

    def _next_frame(self) -> bool:
        while len(self._buffer) < _FRAME.size:
            if not self._receive():
                return False
        self._stream, self._left = _FRAME.unpack_from(self._buffer)
        del self._buffer[: _FRAME.size]
        return True

    def _receive(self) -> bool:
        data = self._connection.recv(_READ_BYTES)
        self._buffer += data
        return bool(data)


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
