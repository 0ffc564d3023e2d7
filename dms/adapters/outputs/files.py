"""The output of jobs in files: `<folder>/<job id>.ndjson`, one JSON array a line:

    [seq,"stdout",time_ns,"text"]

The file of a job is byte for byte the same on both sides, so `sha256sum` of it is the sealed digest.
Files are small appends and the newest lines stay in memory for live readers; the event log alone
decides what happened, so a line is flushed to the kernel at once (a killed process loses none) and
to the disk when the output is sealed.

Reading changes no file. What can't be read behind the last good line of an output that is not sealed is cut off before
more is written, for it comes again from the engine or the peer; unless it is just a torn last line it is kept beside,
in `<job id>.ndjson.damaged-<n>`. What is sealed is never written again. A file that somebody removes, replaces or cuts
under our feet is neither written on nor sealed: who writes begins anew, from the engine or the peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from dms.adapters.outputs.sealed import (
    INDEX_EVERY,
    LONGEST_RAW,
    READ_BYTES,
    SealedOutput,
    identity_of,
    is_truncation,
    parsed,
    sync_file,
)
from dms.application.growing_lines import GrowingLines
from dms.application.ports.outputs import OUTPUT_TRUNCATED as TRUNCATED
from dms.application.ports.outputs import LogLine, OutputCursor, OutputGap, OutputLine, SealedLog, StoredOutput
from dms.application.wakeup import Wakeup
from dms.application.writes import Writes
from dms.disk import FILE_MODE, append_to, make_folder, private
from dms.errors import LogUnavailable, OutputUnavailable, PeerMisbehaved
from dms.recent import Recent

logger = logging.getLogger(__name__)

OPEN_FILES = 256
JOBS_KNOWN = 4096
RECENT_LINES, RECENT_BYTES = 2048, 1 << 20  # of one output, in memory
MOST_RECENT_BYTES = 32 << 20  # of all together
LINE_BYTES = 120  # of memory, for a line beside its text
ERASED = "erased as it was asked for"

_encoder = msgspec.json.Encoder()


class Seals(Protocol):
    """What the event log says of outputs."""

    async def sealed(self, job_id: str) -> SealedLog | None: ...

    async def erased(self, job_id: str) -> bool: ...


class NoSeals:
    """For a store without an event log."""

    async def sealed(self, job_id: str) -> SealedLog | None:
        return None

    async def erased(self, job_id: str) -> bool:
        return False


class _Newest:
    """The newest lines of an output, one at least where there is any."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.size_bytes = 0

    def add(self, line: LogLine) -> None:
        self.lines.append(line)
        self.size_bytes += _in_memory(line)
        if len(self.lines) > 2 * RECENT_LINES or self.size_bytes > 2 * RECENT_BYTES:
            self.cut(RECENT_LINES, RECENT_BYTES)

    def cut(self, most_lines: int = 1, most_bytes: int = 0) -> None:
        count = size = 0
        for line in reversed(self.lines[-most_lines:]):
            size += _in_memory(line)
            if count and size > most_bytes:
                break
            count += 1
        del self.lines[: len(self.lines) - count]
        self.size_bytes = sum(map(_in_memory, self.lines))


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
        self.newest = _Newest()
        self.changed = Wakeup()
        self.sealing = False  # nothing should follow: it is about to be sealed, or is
        self._file: BinaryIO | None = None
        self._inode: tuple[int, int] | None = None  # device and number of the file; None where there is none
        self._behind = 0  # bytes that can't be read, behind the last good line
        self._torn = True  # they are the beginning of a line, without its end: the machine lost power
        self._scan()

    @property
    def damage(self) -> str:
        return "" if self._torn else f"what stands behind line {self.last} of its file can't be read"

    def _scan(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            self._inode = _inode_of(file)
            for raw in iter(lambda: file.readline(LONGEST_RAW), b""):
                line = parsed(raw)
                if line is None or line.seq != self.last + 1:
                    begins = b'[%d,"' % (self.last + 1)
                    self._torn = not raw.endswith(b"\n") and raw[: len(begins)] == begins[: len(raw)]
                    break
                self._count(line, raw)
            self._behind = os.fstat(file.fileno()).st_size - self.size

    def _check(self) -> None:
        """Raises OSError (ESTALE) when another program has removed, replaced or changed the file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            same = self._inode is None
        else:
            same = (found.st_dev, found.st_ino) == self._inode and found.st_size == self.size + self._behind
        if not same:
            raise OSError(errno.ESTALE, "another program has removed or changed it")

    def _repair(self) -> None:
        """Before anything is written behind the last good line. Raises OSError."""
        if not self._behind:
            return
        if not self._torn:
            number = 1
            while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
                number += 1
            with self.path.open("rb") as source, open(aside, "xb", opener=private) as target:
                source.seek(self.size)
                shutil.copyfileobj(source, target)
            sync_file(aside)
            logger.warning("%s: what stood behind line %d can't be read; it is kept in %s", self.path, self.last, aside)
        os.truncate(self.path, self.size)
        self._behind, self._torn = 0, True

    def add(self, lines: Sequence[tuple[LogLine, bytes]]) -> None:
        """Encoded lines that follow on the last one: all of them or none. Raises OSError."""
        if not lines:
            return
        self._check()
        file = self._file or self._open()
        try:
            _write_all(file, b"".join(raw for _, raw in lines))
        except OSError:
            with contextlib.suppress(OSError):  # then the next start cuts it off
                os.truncate(self.path, self.size)
            raise
        for line, raw in lines:
            self._count(line, raw)
        self.changed.wake()

    def _open(self) -> BinaryIO:
        if self._inode is None:
            make_folder(self.path.parent)
        else:
            self.path.chmod(FILE_MODE)  # sealed, though the event log never said so: we died in between
        self._repair()
        self._file = append_to(self.path)
        self._inode = _inode_of(self._file)
        return self._file

    def _count(self, line: LogLine, raw: bytes) -> None:
        if self.last % INDEX_EVERY == 0:
            self.offsets.append(self.size)
        self.last, self.size = line.seq, self.size + len(raw)
        self.digest.update(raw)
        self.truncated = is_truncation(line)
        self.newest.add(line)

    def in_memory(self, after: int, limit: int) -> Sequence[LogLine] | None:
        """None when the file must be read."""
        first = self.last - len(self.newest.lines)
        return _bounded(self.newest.lines[after - first : after - first + limit]) if after >= first else None

    def read(self, after: int, limit: int) -> Sequence[LogLine]:
        found: list[LogLine] = []
        size = 0
        with self.path.open("rb") as file:
            file.seek(self.offsets[after // INDEX_EVERY])
            for raw in iter(lambda: file.readline(LONGEST_RAW), b""):
                line = parsed(raw)
                if line is None:  # damaged since it was written; what is sealed will tell
                    seq = found[-1].seq + 1 if found else after + 1
                    line = LogLine(seq, "stderr", 0, f"[dms] line {seq} is damaged or missing here")
                if line.seq > after:
                    found.append(line)
                    size += len(line.text)
                if len(found) >= limit or size >= READ_BYTES:
                    break
        return found

    @property
    def about(self) -> StoredOutput:
        return StoredOutput(lines=self.last, size_bytes=self.size, truncated=self.truncated, damage=self.damage)

    def cursor(self) -> OutputCursor | None:
        """Reads the whole file: an engine's stamps need be neither unique nor in order."""
        if not self.newest.lines:
            return None
        self._check()
        stamp = self.newest.lines[-1].time_ns
        with self.path.open("rb") as file:
            good = (parsed(file.readline(LONGEST_RAW)) for _ in range(self.last))
            return OutputCursor(stamp, max(1, sum(line is not None and line.time_ns == stamp for line in good)))

    def sync(self) -> None:
        """To the disk, also what was written before the file was closed or this process began; and its name."""
        self._check()
        self._repair()
        if self.path.exists():
            self.path.chmod(0o400)
        sync_file(self.path)

    def seal(self) -> SealedLog:
        self.sealing = True
        return SealedLog(self.last, self.digest.hexdigest(), self.truncated)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class FileOutputStore:
    """Implements application.ports.outputs.OutputStore for one asyncio loop."""

    def __init__(self, folder: Path, max_mb: int, seals: Seals | None = None, writes: Writes | None = None) -> None:
        """max_mb: MiB kept of one job's output."""
        self._folder, self._max_mb, self._max_bytes = folder, max_mb, max_mb * 1024 * 1024
        self._seals, self._writes = seals or NoSeals(), writes or Writes()
        self.growing = GrowingLines()
        make_folder(folder)
        self._open: Recent[str, _Output | SealedOutput] = Recent()
        self._waiting: dict[str, int] = {}  # job id -> readers: such a file is not closed
        self._written: Recent[str, int] = Recent(JOBS_KNOWN)  # job id -> its newest line, until it is sealed

    async def append(self, job_id: str, lines: Sequence[OutputLine]) -> None:
        output = await self._to_write(job_id)
        if isinstance(output, SealedOutput):
            raise LogUnavailable(f"the output of job {job_id} is sealed, nothing can be added to it")
        self._write(job_id, output, _numbered(lines, output.last))

    async def extend(self, job_id: str, lines: Sequence[LogLine]) -> None:
        output = await self._to_write(job_id)
        new = [line for line in lines if line.seq > output.last]
        if not new or (output.full and output.truncated):
            return
        if isinstance(output, SealedOutput):
            raise PeerMisbehaved(f"output of job {job_id}: line {new[0].seq} came behind the last, {output.last}")
        for expected, line in enumerate(new, output.last + 1):
            if line.seq != expected:
                raise PeerMisbehaved(f"output of job {job_id}: line {expected} expected, line {line.seq} came")
        self._write(job_id, output, new)

    async def _to_write(self, job_id: str) -> _Output | SealedOutput:
        """What follows on lines that are gone is not written behind the rest."""
        try:
            output = await self._output(job_id)
        except OutputUnavailable as error:
            self._writes.failed("output of jobs", str(error))
            raise
        if output.last < self._written.get(job_id, 0):
            self._forget(job_id)
            raise OutputUnavailable(f"lines of {output.path} are gone; it is written anew")
        return output

    def _write(self, job_id: str, output: _Output, lines: Sequence[LogLine]) -> None:
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
            raise self._failed(job_id, "written to", error) from error
        if fitting:
            self._writes.worked("output of jobs")
        output.full = full
        self._written[job_id] = output.last
        self._bound_memory()

    def _failed(self, job_id: str, done: str, error: OSError) -> OutputUnavailable:
        path = self._path(job_id)
        self._writes.failed("output of jobs", f"{path}: {error.strerror}")
        if error.errno == errno.ESTALE:
            self._forget(job_id)
        return OutputUnavailable(f"output can't be {done} {path}: {error.strerror}")

    async def read(self, job_id: str, after: int, limit: int) -> Sequence[LogLine]:
        output = await self._output(job_id)
        known = output.in_memory(after, limit)
        if known is not None:
            return known
        with _usable(output.path, "read from"):
            return await asyncio.to_thread(output.read, after, limit)

    async def about(self, job_id: str) -> StoredOutput:
        found = (await self._output(job_id)).about
        if found.lines or not await self._seals.erased(job_id):
            return found
        sealed = await self._seals.sealed(job_id)
        gaps = (OutputGap(1, sealed.lines, ERASED),) if sealed is not None and sealed.lines else ()
        return StoredOutput(lines=sealed.lines if sealed is not None else 0, size_bytes=0, gaps=gaps)

    async def damage(self, job_id: str) -> str:
        return (await self._output(job_id)).damage

    async def last(self, job_id: str) -> int:
        return (await self._output(job_id)).last

    async def cursor(self, job_id: str) -> OutputCursor | None:
        output = await self._output(job_id)
        try:
            return await asyncio.to_thread(output.cursor)
        except OSError as error:
            raise self._failed(job_id, "read from", error) from error

    async def seal(self, job_id: str) -> SealedLog:
        output = await self._to_write(job_id)
        try:
            await asyncio.to_thread(output.sync)
        except OSError as error:
            raise self._failed(job_id, "sealed in", error) from error
        self._writes.worked("output of jobs")
        self._written.pop(job_id, None)
        if isinstance(output, _Output) and job_id not in self._waiting:
            output.newest.cut()
        return output.seal()

    async def drop(self, job_id: str) -> bool:
        self._forget(job_id)
        path = self._path(job_id)
        with _usable(path, "removed from"):
            there = path.exists()
            for each in (path, *self._folder.glob(f"{path.name}.damaged-*")):
                each.unlink(missing_ok=True)
        return there

    def _forget(self, job_id: str) -> None:
        self._written.pop(job_id, None)
        output = self._open.pop(job_id, None)
        if output is not None:
            output.close()
            output.changed.wake()  # who waits looks again, at the new file

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

    async def _output(self, job_id: str) -> _Output | SealedOutput:
        output = self._open.get(job_id)
        with _usable(self._path(job_id), "read from"):
            if output is not None and not await self._is_outdated(job_id, output):
                return output
            opened = await self._opened(job_id)
        now = self._open.get(job_id)
        if now is None or now is output:  # else another reader was as quick
            if output is not None:
                output.close()
                output.changed.wake()
            self._open[job_id] = now = opened
        self._close_oldest()
        self._bound_memory()
        return now

    async def _is_outdated(self, job_id: str, output: _Output | SealedOutput) -> bool:
        """A sealed file that has changed is checked again; one that was about to be sealed is looked at once it is."""
        if isinstance(output, SealedOutput):
            return identity_of(output.path) != output.identity
        return output.sealing and await self._seals.sealed(job_id) is not None

    async def _opened(self, job_id: str) -> _Output | SealedOutput:
        path = self._path(job_id)
        sealed = await self._seals.sealed(job_id)
        size = path.stat().st_size if path.exists() else 0
        if sealed is not None and (path.exists() or not await self._seals.erased(job_id)):
            shut = await asyncio.to_thread(SealedOutput, path, sealed)
            if shut.damage:
                logger.warning("the output of job %s in %s is damaged: %s", job_id, path, shut.damage)
            return shut
        output = _Output(path) if size < 256 * 1024 else await asyncio.to_thread(_Output, path)
        # A line of the job that reads like our mark counts as one only if it is the very last at a restart.
        output.full = output.truncated and output.newest.lines[-1].text == TRUNCATED.format(limit=self._max_mb)
        return output

    def _bound_memory(self) -> None:
        """Those unused for longest are read from their files, should somebody want them."""
        opened = [output for output in self._open.values() if isinstance(output, _Output)]
        size = sum(output.newest.size_bytes for output in opened)
        for output in opened:
            if size <= MOST_RECENT_BYTES:
                return
            size -= output.newest.size_bytes
            output.newest.cut()
            size += output.newest.size_bytes

    def _close_oldest(self) -> None:
        for job_id in [j for j in self._open if j not in self._waiting][: max(0, len(self._open) - _most_open())]:
            self._open.pop(job_id).close()


def _bounded(lines: Sequence[LogLine]) -> Sequence[LogLine]:
    """Those that one answer holds: where they are long, the first of them."""
    size = 0
    for count, line in enumerate(lines, 1):
        size += len(line.text)
        if size >= READ_BYTES:
            return lines[:count]
    return lines


@contextlib.contextmanager
def _usable(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputUnavailable(f"output can't be {done} {path}: {error.strerror}") from error


def _inode_of(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


def _in_memory(line: LogLine) -> int:
    """Bytes."""
    return sys.getsizeof(line.text) + LINE_BYTES


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
