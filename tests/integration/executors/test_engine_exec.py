"""Programs in containers, whose input and output are one connection: neither direction waits for the other."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dms.adapters.executors.engine_exec import ExecStream

MIB = 1024 * 1024
STDOUT, STDERR = 1, 2


def frame(data: bytes, stream: int = STDOUT) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


def all_of(stream: ExecStream) -> bytes:
    found = bytearray()
    while data := stream.read(MIB):
        found += data
    return bytes(found)


@contextmanager
def program(run: Callable[[socket.socket], object]) -> Iterator[ExecStream]:
    """`run` is what the engine does on its side of the connection, which it closes then."""
    ours, theirs = socket.socketpair()
    ours.settimeout(120)

    def work() -> None:
        with theirs:
            run(theirs)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with ours:
            yield ExecStream(ours, b"")
    finally:
        thread.join()


def echo(words: bytes, stream: int) -> Callable[[socket.socket], None]:
    """Says more than any pipe holds for each piece that it takes."""

    def run(connection: socket.socket) -> None:
        left = 8 * MIB
        while left:
            left -= len(connection.recv(min(left, MIB)))
            connection.sendall(frame(words * MIB, stream))

    return run


def test_input_that_is_given_goes_out_while_the_output_is_read() -> None:
    with program(echo(b"o", STDOUT)) as stream:
        stream.give(bytes(8 * MIB))
        found = all_of(stream)
    assert set(found) == {ord("o")}
    assert len(found) % MIB == 0


@pytest.mark.parametrize("kind", [STDOUT, STDERR])
def test_a_program_that_says_much_while_it_takes_its_input_holds_nobody_up(kind: int) -> None:
    with program(echo(b"w", kind)) as stream:
        stream.send(bytes(8 * MIB))
        stream.finish()
        assert len(stream.errors) in ((0,) if kind == STDOUT else (4096,))


def test_a_program_that_takes_only_some_of_its_input_is_read_to_its_end() -> None:
    def run(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(frame(b"enough"))

    with program(run) as stream:
        stream.give(bytes(8 * MIB))
        assert all_of(stream) == b"enough"


def test_a_program_that_neither_takes_nor_says_anything_is_given_up() -> None:
    over = threading.Event()
    with program(lambda _: over.wait(60)) as stream:
        stream._connection.settimeout(0.1)
        stream.give(bytes(8 * MIB))
        with pytest.raises(TimeoutError):
            all_of(stream)
        over.set()
