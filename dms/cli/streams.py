"""The standard streams as a program finds them: closed, of another encoding, with nobody at the other end."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from contextlib import suppress

ESCAPED = "nunet-escaped"


class _Nowhere(io.RawIOBase):
    """In place of a closed standard output: data that goes there would be lost without a word."""

    def writable(self) -> bool:
        return True

    def write(self, _data: object) -> int:
        raise OSError(errno.EBADF, "standard output is closed")


def prepare() -> None:
    """All three are there afterwards, and nothing that is written to them fails for its encoding. A descriptor that
    is closed is taken first, so that no file of ours gets its number."""
    closed = [fd for fd in range(3) if not _is_open(fd)]
    for fd in closed:
        os.open(os.devnull, os.O_RDONLY if fd == 0 else os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(_Nowhere(), write_through=True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # for as long as the process lives
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes that came in as no UTF-8 (a file's name) go out as they were; what the encoding has not, as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return character.encode("ascii", "backslashreplace").decode(), error.start + 1


def is_utf_8(text: str) -> bool:
    """False for what came from the command line or the environment and was no text there."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def flush() -> None:
    """Raises OSError when something that was printed can't be written. What waits is dropped then, so that the end
    of the interpreter does not stumble over it."""
    failed = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            failed = failed or error
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if failed is not None:
        raise failed


def has_no_reader() -> bool:
    """Whether what reads our output is gone."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # one of a test has no descriptor
            poll.register(stream.fileno(), select.POLLOUT)
    return any(found & select.POLLERR for _, found in poll.poll(0))
