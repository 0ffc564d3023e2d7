"""From the engine's bytes to lines of output: frames, timestamps, long lines, cursors. Pure.

The Docker API sends a container's log as frames: 8 bytes of header (stream, three zeros, length as
big-endian uint32), then one log record, which with `timestamps=1` begins with a fixed-width RFC 3339
time in nanoseconds and a blank. A record without a newline at its end goes on in the stream's next one.
Source: Docker Engine API 1.41, "Attach to a container", "Stream format".
"""

from __future__ import annotations

import calendar
import struct
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from msgspec import Struct

from dms.application.ports import OutputCursor, OutputLine
from dms.errors import ExecutorUnavailable

LINE_BYTES = 65_536  # a longer line is delivered in pieces of this size
BATCH_LINES = 1_000
STREAMS = {1: "stdout", 2: "stderr"}

_HEADER = struct.Struct(">BxxxI")
_STAMP_BYTES = len("2026-01-02T03:04:05.000000000Z")
_CHUNK_LIMIT = 64 * 1024 * 1024  # the engine sends far smaller ones: a larger one is not HTTP
_REMEMBERED_STAMPS = 4_096


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
    """Joins records into lines of at most LINE_BYTES; text that is not UTF-8 gets replacement marks."""

    def __init__(self) -> None:
        self._pending: dict[str, tuple[int, bytearray]] = {}

    def feed(self, records: Sequence[Record]) -> list[OutputLine]:
        lines: list[OutputLine] = []
        for record in records:
            stream, data = record.stream, record.data
            if stream not in self._pending and data[-1:] == b"\n" and len(data) <= LINE_BYTES:
                lines.append(OutputLine(stream, record.time_ns, data[:-1].decode("utf-8", "replace")))
            else:
                lines += self._join(record)
        return lines

    def flush(self) -> list[OutputLine]:
        """What was printed without a newline at the very end."""
        return [
            OutputLine(stream, time_ns, bytes(data).decode("utf-8", "replace"))
            for stream, (time_ns, data) in self._pending.items()
        ]

    def _join(self, record: Record) -> Iterator[OutputLine]:
        time_ns, joined = self._pending.pop(record.stream, (record.time_ns, bytearray()))
        ended = record.data.endswith(b"\n")
        joined += record.data[:-1] if ended else record.data
        while len(joined) > LINE_BYTES:
            cut = character_boundary(joined, LINE_BYTES)
            yield OutputLine(record.stream, time_ns, bytes(joined[:cut]).decode("utf-8", "replace"))
            del joined[:cut]
        if ended:
            yield OutputLine(record.stream, time_ns, bytes(joined).decode("utf-8", "replace"))
        else:
            self._pending[record.stream] = (time_ns, joined)


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
        self._counts: OrderedDict[int, int] = OrderedDict()
        if cursor:
            self._counts[cursor.time_ns] = cursor.count

    def advance(self, lines: Sequence[OutputLine]) -> None:
        for line in lines:
            self._counts[line.time_ns] = self._counts.get(line.time_ns, 0) + 1
        if lines:
            self.cursor = OutputCursor(lines[-1].time_ns, self._counts[lines[-1].time_ns])
        while len(self._counts) > _REMEMBERED_STAMPS:
            self._counts.popitem(last=False)


def batches(lines: Sequence[OutputLine]) -> Iterator[Sequence[OutputLine]]:
    """Slices of at most BATCH_LINES; none for no lines."""
    for start in range(0, len(lines), BATCH_LINES):
        yield lines[start : start + BATCH_LINES]


def character_boundary(data: bytes | bytearray, limit: int) -> int:
    """The last index <= limit at which a UTF-8 character begins (limit itself if it is not UTF-8)."""
    for cut in range(limit, max(limit - 4, 0), -1):
        if data[cut] & 0xC0 != 0x80:
            return cut
    return limit


def _chunk_size(line: bytes) -> int:
    try:
        size = int(line.split(b";", 1)[0], 16)
    except ValueError as error:
        raise ExecutorUnavailable(f"the engine sent no HTTP chunk but {line[:40]!r}") from error
    if not 0 <= size <= _CHUNK_LIMIT:
        raise ExecutorUnavailable(f"the engine sent an HTTP chunk of {size} bytes")
    return size
