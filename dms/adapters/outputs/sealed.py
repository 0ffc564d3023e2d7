"""The output of a job that was sealed: read only, and held against the digest that the event log has of it.

What is damaged is shown as far as it can be read. A line of ours stands wherever something is not as it was, and one
behind the last; a reader never takes what is left for the whole.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dms.application.ports.outputs import (
    OUTPUT_DAMAGED,
    OUTPUT_TRUNCATED,
    LogLine,
    OutputCursor,
    OutputGap,
    SealedLog,
    StoredOutput,
)
from dms.application.wakeup import Wakeup
from dms.domain.decoding import UNREADABLE

INDEX_EVERY = 256  # lines between two remembered offsets
BLOCK_BYTES = 64 * 1024
READ_BYTES = 1024 * 1024  # of a file, for one answer
MOST_GAPS = 100  # that are told one by one
STREAMS = ("stdout", "stderr")
LATEST_NS = 2**63  # in the year 2262
LONGEST_RAW = 1024 * 1024  # bytes: more than any line of ours takes; damage can join lines

MISSING = "its file is missing"
_TRUNCATED = re.compile(re.escape(OUTPUT_TRUNCATED).replace(re.escape("{limit}"), "[0-9]+"))
_decoder = msgspec.json.Decoder(LogLine)

Identity = tuple[int, int, int]


class FileState(Struct, frozen=True, kw_only=True):
    """What a file holds. damage: how it differs from what was sealed, empty when it does not. uncheckable: it was cut
    by this node's own limit, which is lower than the provider's: the provider's digest is of more."""

    lines: int
    sha256: str
    damage: str = ""
    uncheckable: bool = False


class SealedOutput:
    """Reads the file at once, in a thread: it may be large."""

    def __init__(self, path: Path, sealed: SealedLog) -> None:
        self.path = path
        self.sealed = sealed
        self.full = True
        self.changed = Wakeup()
        self.identity = identity_of(path)
        self._index: list[tuple[int, int]] = []  # (line before it, offset), ascending
        self.gaps: list[OutputGap] = []
        self._scan()

    @property
    def damage(self) -> str:
        return self.state.damage

    @property
    def about(self) -> StoredOutput:
        return StoredOutput(
            lines=self._lines_sealed,
            size_bytes=self.identity[1],
            truncated=self.truncated,
            damage=self.damage,
            gaps=tuple(self.gaps),
        )

    @property
    def truncated(self) -> bool:
        return self.sealed.truncated or self.state.uncheckable

    def _scan(self) -> None:
        index: list[tuple[int, int]] = []
        self.state = file_state(self.path, self.sealed, index)
        self.last = self.state.lines
        if self.damage:
            index.clear()
            before = 0
            for line, offset in self._lines_from(0, 0):
                if offset is None:
                    self._add_gap(before + 1, min(line.seq, self._lines_sealed))
                elif not index or line.seq - 1 >= index[-1][0] + INDEX_EVERY:
                    index.append((line.seq - 1, offset))
                self.last = before = line.seq
        self._index = index

    def _add_gap(self, first: int, last: int) -> None:
        """Behind MOST_GAPS the last one stands for all that follow."""
        if last < first:
            return  # the word at the end
        if len(self.gaps) < MOST_GAPS:
            self.gaps.append(OutputGap(first, last, "damaged or missing here" if self.path.exists() else MISSING))
        else:
            self.gaps[-1] = replace(self.gaps[-1], last=last, reason="partly damaged or missing here")

    def read(self, after: int, limit: int) -> Sequence[LogLine]:
        at = bisect_right(self._index, (after, 1 << 62)) - 1
        last, offset = self._index[at] if at >= 0 else (0, 0)
        found: list[LogLine] = []
        size = 0
        for line, _ in self._lines_from(last, offset):
            if line.seq > after:
                found.append(line)
                size += len(line.text)
            if len(found) >= limit or size >= READ_BYTES:
                break
        return found

    def _lines_from(self, last: int, offset: int) -> Iterator[tuple[LogLine, int | None]]:
        """(line, its offset) of what the file has, and lines of ours, without one."""
        time_ns = 0
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(offset)
                for line, at in _readable(file, last, self._lines_sealed, strict=not self.damage):
                    if line.seq > last + 1:
                        yield _mark(line.seq - 1, line.time_ns, _missing(last + 1, line.seq - 1)), None
                    yield line, at
                    last, time_ns = line.seq, line.time_ns
        if not self.damage:
            return
        if last < self._lines_sealed:
            yield _mark(self._lines_sealed, time_ns, _missing(last + 1, self._lines_sealed)), None
        if last <= self._lines_sealed:
            yield _mark(self._lines_sealed + 1, time_ns, OUTPUT_DAMAGED + self.damage), None

    @property
    def _lines_sealed(self) -> int:
        return self.state.lines if self.state.uncheckable else self.sealed.lines

    def cursor(self) -> OutputCursor | None:
        return None  # nothing follows

    def in_memory(self, after: int, limit: int) -> Sequence[LogLine] | None:
        return () if after >= self.last else None

    def sync(self) -> None:
        """It was, when it was sealed."""

    def seal(self) -> SealedLog:
        return SealedLog(self.state.lines, self.state.sha256, self.truncated)

    def close(self) -> None:
        """Nothing is kept open."""


def file_state(path: Path, sealed: SealedLog, index: list[tuple[int, int]] | None = None) -> FileState:
    """index: gets a line's predecessor and offset for each block of the file."""
    if not path.exists():
        gone = MISSING if sealed.lines else ""
        return FileState(lines=0, sha256=sha256().hexdigest(), damage=_words(sealed, gone) if gone else "")
    with path.open("rb") as file:
        lines, found = _scanned(file, index)
        if (lines, found) == (sealed.lines, sealed.sha256):
            return FileState(lines=lines, sha256=found)
        end = parsed(_last_line(file))
    if end is not None and end.seq == lines <= sealed.lines and not sealed.truncated and is_truncation(end):
        return FileState(lines=lines, sha256=found, uncheckable=True)
    what = f"its file has {lines} lines with SHA-256 {found}"
    return FileState(lines=lines, sha256=found, damage=_words(sealed, what))


def _scanned(file: BinaryIO, index: list[tuple[int, int]] | None) -> tuple[int, str]:
    """How many lines there are, and the digest. By blocks: a million lines one by one take too long."""
    digest, lines, offset, ending = sha256(), 0, 0, b"\n"
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
        begin = 0 if ending == b"\n" else block.find(b"\n") + 1
        if index is not None and (begin or ending == b"\n"):
            index.append((lines + (begin > 0), offset + begin))
        lines, offset, ending = lines + block.count(b"\n"), offset + len(block), block[-1:]
    return lines + (ending != b"\n"), digest.hexdigest()


def _last_line(file: BinaryIO) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_RAW))
    tail = file.read()
    return tail[tail.rfind(b"\n", 0, -1) + 1 :]


def identity_of(path: Path) -> Identity:
    """Changes when the file does."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def is_truncation(line: LogLine) -> bool:
    return line.stream == "stderr" and _TRUNCATED.fullmatch(line.text) is not None


def parsed(raw: bytes) -> LogLine | None:
    """None for what is not a whole line."""
    try:
        line = _decoder.decode(raw) if raw.endswith(b"\n") else None
    except UNREADABLE:
        return None
    return line if line is not None and line.stream in STREAMS and 0 <= line.time_ns < LATEST_NS else None


def sync_file(path: Path) -> None:
    """To the disk, with its name."""
    for each in (path, path.parent) if path.exists() else ():
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _readable(file: BinaryIO, last: int, most: int, *, strict: bool) -> Iterator[tuple[LogLine, int]]:
    """(line, its offset) of all that can be lines, in ascending order. Not strict: a number is believed when it follows
    on the line before, or the next line follows on it, so that one damaged number hides no good line."""
    offset = file.tell()
    raw = file.readline(LONGEST_RAW)
    while raw:
        following = file.readline(LONGEST_RAW)
        line = parsed(raw)
        believed = strict or (line is not None and (line.seq == last + 1 or _follows(following, line.seq, most)))
        if line is not None and believed and last < line.seq <= most:
            yield line, offset
            last = line.seq
        offset += len(raw)
        raw = following


def _follows(raw: bytes, seq: int, most: int) -> bool:
    """Whether that comes behind line `seq`: the next one, or the end behind the last."""
    line = parsed(raw)
    return line.seq == seq + 1 if line is not None else not raw and seq == most


def _words(sealed: SealedLog, what: str) -> str:
    return f"{sealed.lines} lines with SHA-256 {sealed.sha256} were sealed, {what}"


def _missing(first: int, last: int) -> str:
    lines = f"line {first} is" if first == last else f"lines {first} to {last} are"
    return f"[dms] {lines} damaged or missing here"


def _mark(seq: int, time_ns: int, text: str) -> LogLine:
    return LogLine(seq, "stderr", time_ns, text)
