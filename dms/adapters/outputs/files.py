"""The output of jobs in files: `<folder>/<job id>.ndjson`, one JSON array a line:

    [seq,"stdout",time_ns,"text"]

The file of a job is byte for byte the same on both sides, so `sha256sum` of it is the sealed digest.
Files are small appends and the newest lines stay in memory for live readers; the event log alone
decides what happened, so a line is flushed to the kernel at once (a killed process loses none) and
to the disk when the output is sealed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec

from dms.application.ports import LogLine, OutputCursor, OutputLine, SealedLog
from dms.errors import LogUnavailable, PeerMisbehaved

TRUNCATED = "[dms] output truncated: the limit of {limit} MB is reached, later lines are dropped"
_MARK = re.compile(re.escape(TRUNCATED).replace(re.escape("{limit}"), "[0-9]+"))
OPEN_FILES = 256
RECENT_LINES = 2048
INDEX_EVERY = 256  # lines between two remembered offsets

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LogLine)


class _Output:
    """One job's file, opened: the counters that appending needs, and the newest lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = 0
        self.size = 0
        self.digest = sha256()
        self.truncated = False  # the last line says so: ours or, on the other side, the peer's
        self.full = False  # by our own limit: nothing more is kept
        self.offsets: list[int] = []  # of line 1, 1 + INDEX_EVERY, ...
        self.recent: list[LogLine] = []
        self.changed = asyncio.Event()
        self._file: BinaryIO | None = None
        self._scan()

    def _scan(self) -> None:
        """Reads what is there; a torn last line (the machine lost power) is cut off."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for raw in file:
                line = _parse(raw)
                if line is None or line.seq != self.last + 1:
                    break
                self._count(line, raw)
        if self.path.stat().st_size != self.size:
            os.truncate(self.path, self.size)

    def add(self, lines: Sequence[tuple[LogLine, bytes]]) -> None:
        """Encoded lines that follow on the last one: all of them or none. Raises OSError."""
        if not lines:
            return
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
            self.path.chmod(0o600)
        try:
            _write_all(self._file, b"".join(raw for _, raw in lines))
        except OSError:
            with contextlib.suppress(OSError):  # then the next start cuts it off
                os.truncate(self.path, self.size)
            raise
        for line, raw in lines:
            self._count(line, raw)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _count(self, line: LogLine, raw: bytes) -> None:
        if self.last % INDEX_EVERY == 0:
            self.offsets.append(self.size)
        self.last, self.size = line.seq, self.size + len(raw)
        self.digest.update(raw)
        self.truncated = line.stream == "stderr" and _MARK.fullmatch(line.text) is not None
        self.recent.append(line)
        if len(self.recent) > 2 * RECENT_LINES:
            del self.recent[:-RECENT_LINES]

    def read(self, after: int, limit: int) -> Sequence[LogLine]:
        first = self.last - len(self.recent)
        if after >= first:
            return self.recent[after - first : after - first + limit]
        found: list[LogLine] = []
        with self.path.open("rb") as file:
            file.seek(self.offsets[after // INDEX_EVERY])
            for raw in file:
                line = _decoder.decode(raw)
                if line.seq > after:
                    found.append(line)
                if len(found) >= limit:
                    break
        return found

    def cursor(self) -> OutputCursor | None:
        """Reads the whole file: an engine's stamps need be neither unique nor in order."""
        if not self.recent:
            return None
        stamp = self.recent[-1].time_ns
        with self.path.open("rb") as file:
            return OutputCursor(stamp, sum(_decoder.decode(raw).time_ns == stamp for raw in file))

    def sync(self) -> None:
        """To the disk, also what was written before the file was closed or this process began; and its name."""
        for path in (self.path, self.path.parent) if self.path.exists() else ():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class FileOutputStore:
    """Implements application.ports.OutputStore for one asyncio loop."""

    def __init__(self, folder: Path, max_mb: int) -> None:
        """max_mb: MiB kept of one job's output."""
        self._folder, self._max_mb, self._max_bytes = folder, max_mb, max_mb * 1024 * 1024
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open: OrderedDict[str, _Output] = OrderedDict()
        self._waiting: dict[str, int] = {}  # job id -> readers: such a file is not closed

    async def append(self, job_id: str, lines: Sequence[OutputLine]) -> None:
        output = await self._output(job_id)
        self._write(output, _numbered(lines, output.last))

    async def extend(self, job_id: str, lines: Sequence[LogLine]) -> None:
        output = await self._output(job_id)
        if output.full:
            return
        new = [line for line in lines if line.seq > output.last]
        for expected, line in enumerate(new, output.last + 1):
            if line.seq != expected:
                raise PeerMisbehaved(f"output of job {job_id}: line {expected} expected, line {line.seq} came")
        self._write(output, new)

    def _write(self, output: _Output, lines: Sequence[LogLine]) -> None:
        if output.full:
            return
        fitting: list[tuple[LogLine, bytes]] = []
        size, full = output.size, False
        for line in lines:
            raw = _encoder.encode(line) + b"\n"
            size += len(raw)
            if size > self._max_bytes:
                mark = LogLine(line.seq, "stderr", line.time_ns, TRUNCATED.format(limit=self._max_mb))
                fitting.append((mark, _encoder.encode(mark) + b"\n"))
                full = True
                break
            fitting.append((line, raw))
        try:
            output.add(fitting)
        except OSError as error:
            raise LogUnavailable(f"output can't be written to {output.path}: {error.strerror}") from error
        output.full = full

    async def read(self, job_id: str, after: int, limit: int) -> Sequence[LogLine]:
        output = await self._output(job_id)
        if after >= output.last - len(output.recent):
            return output.read(after, limit)
        return await asyncio.to_thread(output.read, after, limit)

    async def last(self, job_id: str) -> int:
        return (await self._output(job_id)).last

    async def cursor(self, job_id: str) -> OutputCursor | None:
        output = await self._output(job_id)
        return await asyncio.to_thread(output.cursor)

    async def seal(self, job_id: str) -> SealedLog:
        output = await self._output(job_id)
        await asyncio.to_thread(output.sync)
        return SealedLog(output.last, output.digest.hexdigest(), output.truncated)

    async def drop(self, job_id: str) -> bool:
        output = self._open.pop(job_id, None)
        if output is not None:
            output.close()
            output.changed.set()  # who waits looks again, at the new file
        path = self._path(job_id)
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    async def wait(self, job_id: str, after: int) -> None:
        self._waiting[job_id] = self._waiting.get(job_id, 0) + 1
        try:
            while (output := await self._output(job_id)).last <= after:
                await output.changed.wait()
        finally:
            self._waiting[job_id] -= 1
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def close(self) -> None:
        for output in self._open.values():
            output.close()
        self._open.clear()

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.ndjson"

    async def _output(self, job_id: str) -> _Output:
        output = self._open.get(job_id)
        if output is None:
            path = self._path(job_id)
            size = path.stat().st_size if path.exists() else 0
            output = _Output(path) if size < 256 * 1024 else await asyncio.to_thread(_Output, path)
            # A line of the job that reads like our mark counts as one only if it is the very last at a restart.
            output.full = output.truncated and output.recent[-1].text == TRUNCATED.format(limit=self._max_mb)
            output = self._open.setdefault(job_id, output)  # another reader may have been as quick
            self._close_oldest()
        self._open.move_to_end(job_id)
        return output

    def _close_oldest(self) -> None:
        for job_id in [j for j in self._open if j not in self._waiting][: max(0, len(self._open) - _most_open())]:
            self._open.pop(job_id).close()


def _most_open() -> int:
    """At most an eighth of what this process may open: the rest is for connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if soft == resource.RLIM_INFINITY else min(OPEN_FILES, max(soft // 8, 8))


def _write_all(file: BinaryIO, data: bytes) -> None:
    """An unbuffered file may take a part only."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _numbered(lines: Sequence[OutputLine], last: int) -> list[LogLine]:
    return [LogLine(seq, line.stream, line.time_ns, line.text) for seq, line in enumerate(lines, last + 1)]


def _parse(raw: bytes) -> LogLine | None:
    try:
        return _decoder.decode(raw) if raw.endswith(b"\n") else None
    except msgspec.DecodeError:
        return None
