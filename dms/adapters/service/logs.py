"""The log on its way out: written in a thread of its own, so that who does not read it holds up nobody."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler

from dms.disk import private

MOST_BYTES = 4_000_000  # that wait to be written; what comes then is dropped and counted
END_SECONDS = 2.0  # for what waits when the process ends


class BackgroundHandler(logging.Handler):
    """Formats a record where it is made, and hands it to `write` in a thread. Nothing here waits but `flush`."""

    def __init__(self, write: Callable[[bytes], object], most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self._write, self._most = write, most_bytes
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes, with those that are being written
        self._lost = 0
        threading.Thread(target=self._run, name="log writer", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        line = self._line(record)
        with self._changed:
            if self._lost and self._waiting <= self._most // 2:
                told = f"{self._lost} lines of this log were dropped: they came faster than they were read"
                line = self._line(_warning(told)) + line
                self._lost = 0
            if self._lost or self._waiting + len(line) > self._most:
                self._lost += 1
                return
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")

    def flush(self) -> None:
        """At the end of the process: what waits is written if somebody takes it in time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, END_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            with suppress(OSError):  # nobody is there to read it
                self._write(line)
            with self._changed:
                self._waiting -= len(line)
                self._changed.notify_all()


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord("dms", logging.WARNING, __file__, 0, text, None, None)


def to_descriptor(fd: int) -> Callable[[bytes], None]:
    """Writes whole lines. A descriptor that another program made non-blocking is waited for."""

    def write(line: bytes) -> None:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:
                select.select([], [fd], [])

    return write


class _LogFile(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=private)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """A full disk: the other way out tells of it, and a traceback for each line would not help."""


def to_file(file: RotatingFileHandler) -> Callable[[bytes], None]:
    def write(line: bytes) -> None:
        file.emit(logging.makeLogRecord({"msg": line.decode().removesuffix("\n")}))

    return write


def rotating(path: os.PathLike[str], *, each_bytes: int, older: int) -> RotatingFileHandler:
    """Each file of them is its user's alone. Raises OSError."""
    return _LogFile(path, maxBytes=each_bytes, backupCount=older, encoding="utf-8")
