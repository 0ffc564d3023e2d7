"""From the engine's bytes to lines of output: frames, timestamps, long lines, cursors. Pure.

The Docker API sends a container's log as frames: 8 bytes of header (stream, three zeros, length as
big-endian uint32), then one log record, which with `timestamps=1` begins with a fixed-width RFC 3339
time in nanoseconds and a blank. The engine cuts lines that are longer than 16 KiB into records of exactly that size
and a rest, at bytes, not at characters. The driver `json-file` then puts a newline behind the rest, `local` does not.
Source: Docker Engine API 1.41, "Attach to a container", "Stream format"; moby 20.10, daemon/logger/copier.go.
"""

from __future__ import annotations

import calendar
import math
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from dms.adapters.executors.lines import LineCutter
from dms.application.ports.outputs import OUTPUT_TRUNCATED, OutputCursor, OutputLine
from dms.errors import ExecutorUnavailable
from dms.recent import Recent

BATCH_LINES = 1_000
STREAMS = {1: "stdout", 2: "stderr"}

MIB = 1024 * 1024

_HEADER = struct.Struct(">BxxxI")
_STAMP_BYTES = len("2026-01-02T03:04:05.000000000Z")
_CHUNK_LIMIT = 64 * 1024 * 1024  # the engine sends far smaller ones: a larger one is not HTTP
_BYTES_A_NANOSECOND = 1.0  # more than any log driver writes
_REMEMBERED_STAMPS = 4_096
_PART_BYTES = 16_384  # of a record whose line goes on in the stream's next one
_UNESCAPED = bytes(set(range(0x20, 0x100)) - set(b'"\\<>&'))


class Record(Struct, frozen=True):
    """One log record of the engine. data: bytes, with the newline if the line ends here."""

    stream: str
    time_ns: int
    data: bytes


class Dechunker:
    """Undoes HTTP/1.1 chunked transfer. `finished` tells an end from a cut line."""

    def __init__(self) -> None:
        self.finished = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The payload of all chunks that are complete by now. Raises ExecutorUnavailable on rubbish."""
        buffer, position, payload = self._rest + data, 0, []
        while not self.finished and (line_end := buffer.find(b"\r\n", position)) >= 0:
            start = line_end + 2
            end = start + _chunk_size(buffer[position:line_end])
            if len(buffer) < end + 2:
                break
            self.finished = start == end
            payload.append(buffer[start:end])
            position = end + 2
        self._rest = buffer[position:]
        return b"".join(payload)


class FrameReader:
    """Splits a multiplexed log into records."""

    def __init__(self) -> None:
        self._rest = b""
        self._clock = StampParser()

    def feed(self, data: bytes) -> list[Record]:
        buffer, position, records = self._rest + data, 0, []
        while len(buffer) - position >= _HEADER.size:
            stream, length = _HEADER.unpack_from(buffer, position)
            start, end = position + _HEADER.size, position + _HEADER.size + length
            if len(buffer) < end:
                break
            stamp_end = start + _STAMP_BYTES
            time_ns = self._clock.parse(buffer[start:stamp_end])
            records.append(Record(STREAMS.get(stream, "stderr"), time_ns, buffer[stamp_end + 1 : end]))
            position = end
        self._rest = buffer[position:]
        return records


class StampParser:
    """RFC 3339 times of one log; neighbours mostly share their second, so that is kept."""

    def __init__(self) -> None:
        self._second = b""
        self._second_ns = 0

    def parse(self, stamp: bytes) -> int:
        """`2026-01-02T03:04:05.123456789Z` as Unix time in nanoseconds."""
        try:
            if stamp[:19] != self._second:
                moment = time.strptime(stamp[:19].decode("ascii"), "%Y-%m-%dT%H:%M:%S")
                self._second, self._second_ns = stamp[:19], calendar.timegm(moment) * 1_000_000_000
            return self._second_ns + int(stamp[20:29])
        except ValueError as error:
            raise ExecutorUnavailable(f"the engine's log has no time where one belongs: {stamp!r}") from error


class LineAssembler:
    """Joins records into lines, over all cuts; a line that is longer than LINE_BYTES comes in pieces."""

    def __init__(self) -> None:
        self._pending: dict[str, tuple[int, LineCutter]] = {}

    def feed(self, records: Sequence[Record]) -> list[OutputLine]:
        lines: list[OutputLine] = []
        for record in records:
            stream, data = record.stream, record.data
            if stream not in self._pending and len(data) < _PART_BYTES:  # too short to be a piece, whatever is in it
                lines.append(OutputLine(stream, record.time_ns, data.removesuffix(b"\n").decode("utf-8", "replace")))
            else:
                lines += self._join(record)
        return lines

    def flush(self) -> list[OutputLine]:
        """Of lines that go on, what there is by now."""
        pending, self._pending = self._pending, {}
        return [
            OutputLine(stream, time_ns, text) for stream, (time_ns, cutter) in pending.items() for text in cutter.end()
        ]

    def _join(self, record: Record) -> Iterator[OutputLine]:
        stream = record.stream
        time_ns, cutter = self._pending.pop(stream, (record.time_ns, LineCutter()))
        if record.data.endswith(b"\n") or len(record.data) < _PART_BYTES:
            texts = cutter.end(record.data.removesuffix(b"\n"))
        else:
            self._pending[stream] = (time_ns, cutter)
            texts = cutter.feed(record.data)
        for text in texts:
            yield OutputLine(stream, time_ns, text)


class Allowance:
    """How much of an engine's log is sure to be without a gap: one of its files, counted from the first record.

    Whoever reads slower than a job prints is led by the engine from one file to a much later one, without a
    word (moby issue 37646). So what lies behind the first file is not read; a last line says so."""

    def __init__(self, file_bytes: float, size: Callable[[bytes], int]) -> None:
        """size: the most that a record with this data takes in the file."""
        self._left, self._limit_mb, self._size = file_bytes, file_bytes / MIB, size

    def is_fresh(self, age_ns: int) -> bool:
        """Whether no engine can have written a whole file in that time."""
        return age_ns < self._left / _BYTES_A_NANOSECOND

    @property
    def used_up(self) -> bool:
        return self._left < 0

    def pass_on(self, records: Sequence[Record], assembler: LineAssembler) -> list[OutputLine]:
        """The lines of the records that are within it. The mark takes the place, and so the time, of the first
        record beyond: the same cursor finds it again."""
        for index, record in enumerate(records):
            self._left -= self._size(record.data)
            if self._left < 0:
                mark = OutputLine("stderr", record.time_ns, OUTPUT_TRUNCATED.format(limit=int(self._limit_mb)))
                return [*assembler.feed(records[:index]), *assembler.flush(), mark]
        return assembler.feed(records)


def size_in_local(data: bytes) -> int:
    """Of a record of the log driver `local`: two lengths, source, time and, for a part of a line, its number and id."""
    return len(data) + (32 if data[-1:] == b"\n" else 128)


def size_in_json(data: bytes) -> int:
    """Of a record of `json-file`, which older versions of this program chose. What it escapes takes up to six bytes."""
    return (
        len(data) + 100 + 5 * (len(data.translate(None, _UNESCAPED)) + data.decode("utf-8", "replace").count("\ufffd"))
    )


def log_allowance(config: Mapping[str, Any]) -> Allowance:
    """config: of the container, as the engine tells it (`HostConfig.LogConfig`)."""
    limit = re.fullmatch(r"([0-9]+)([kmg]?)b?", str((config.get("Config") or {}).get("max-size") or ""))
    if limit is None:  # one file that grows, or another driver, whose files are not known
        return Allowance(math.inf, len)
    size = int(limit[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[limit[2]]
    return Allowance(size, size_in_local if config.get("Type") == "local" else size_in_json)


class Seeker:
    """Lets lines pass once the cursor's line went by.

    The engine's stamps are not in the order of its log (each stream is stamped on its own, and a long
    line carries the time of its beginning), so times are compared for equality only.
    """

    def __init__(self, cursor: OutputCursor | None) -> None:
        self._time_ns = cursor.time_ns if cursor else 0
        self._missing = cursor.count if cursor else 0

    @property
    def found(self) -> bool:
        return self._missing == 0

    def pass_on(self, lines: list[OutputLine]) -> list[OutputLine]:
        if self.found:
            return lines
        for index, line in enumerate(lines):
            self._missing -= line.time_ns == self._time_ns
            if self.found:
                return lines[index + 1 :]
        return []


class CursorTracker:
    """The cursor after the last line seen; counts lines of one stamp even where others lie between."""

    def __init__(self, cursor: OutputCursor | None) -> None:
        self.cursor = cursor
        self._counts: Recent[int, int] = Recent(_REMEMBERED_STAMPS)
        if cursor:
            self._counts[cursor.time_ns] = cursor.count

    def advance(self, lines: Sequence[OutputLine]) -> None:
        for line in lines:
            self._counts[line.time_ns] = self._counts.get(line.time_ns, 0) + 1
        if lines:
            self.cursor = OutputCursor(lines[-1].time_ns, self._counts[lines[-1].time_ns])


def batches(lines: Sequence[OutputLine]) -> Iterator[Sequence[OutputLine]]:
    """Slices of at most BATCH_LINES; none for no lines."""
    for start in range(0, len(lines), BATCH_LINES):
        yield lines[start : start + BATCH_LINES]


def _chunk_size(line: bytes) -> int:
    try:
        size = int(line.split(b";", 1)[0], 16)
    except ValueError as error:
        raise ExecutorUnavailable(f"the engine sent no HTTP chunk but {line[:40]!r}") from error
    if not 0 <= size <= _CHUNK_LIMIT:
        raise ExecutorUnavailable(f"the engine sent an HTTP chunk of {size} bytes")
    return size
