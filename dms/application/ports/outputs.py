"""The output of jobs: lines as the engine stamps them, and as they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from dms.application.growing_lines import GrowingLines

OUTPUT_TRUNCATED = "[dms] output truncated: the limit of {limit} MB is reached, later lines are dropped"
OUTPUT_DAMAGED = "[dms] this output is damaged: "
LEAST_PIECE = 65_533  # bytes of text: a line so long is a piece, and the rest follows


class OutputLine(Struct, frozen=True):
    """One line of a container's output, without its newline."""

    stream: str  # "stdout" | "stderr"
    time_ns: int  # Unix time, nanoseconds, strictly as the engine stamped it
    text: str


class OutputCursor(Struct, frozen=True):
    """Where reading goes on: after the `count`-th line stamped `time_ns` (count >= 1) of the whole log."""

    time_ns: int
    count: int


class LogLine(Struct, frozen=True, array_like=True, gc=False):
    """One line of a job's output. seq: from 1, one count over both streams. time_ns: Unix, the
    engine's stamp. Stored and sent as a JSON array, so both sides hold the same bytes."""

    seq: int
    stream: str  # "stdout" | "stderr"
    time_ns: int
    text: str

    @property
    def goes_on(self) -> bool:
        """Whether the next line of the stream is more of the same line, with no newline between."""
        return 4 * len(self.text) >= LEAST_PIECE and len(self.text.encode()) >= LEAST_PIECE


class SealedLog(Struct, frozen=True):
    """lines: how many there are. sha256: hex, of the file's bytes. truncated: the size limit was met."""

    lines: int
    sha256: str
    truncated: bool


class OutputGap(Struct, frozen=True):
    """Lines that were there and are not here. reason: a part of a sentence."""

    first: int
    last: int
    reason: str


class StoredOutput(Struct, frozen=True, kw_only=True):
    """lines: how many there are, those in gaps included. size_bytes: as stored. truncated: the size limit was met.
    damage: see OutputStore.damage."""

    lines: int
    size_bytes: int
    truncated: bool = False
    damage: str = ""
    gaps: tuple[OutputGap, ...] = ()


class OutputStore(Protocol):
    """The output of jobs, on disk, apart from the event log. growing: of lines that have no end yet, in memory."""

    growing: GrowingLines

    async def append(self, job_id: str, lines: Sequence[OutputLine]) -> None:
        """Of an execution on this node: numbers the lines. Those behind the size limit are dropped
        and a last line says so."""

    async def extend(self, job_id: str, lines: Sequence[LogLine]) -> None:
        """Of a peer's execution: lines known already are skipped. Raises PeerMisbehaved on a gap."""

    async def read(self, job_id: str, after: int, limit: int) -> Sequence[LogLine]:
        """At most `limit` lines behind line `after`, fewer where they are long, none only at the end. Where a sealed
        output is damaged, lines of ours say so."""

    async def about(self, job_id: str) -> StoredOutput:
        """What there is of it, without reading the lines."""

    async def damage(self, job_id: str) -> str:
        """How the output differs from what was sealed; empty when it does not, or was erased."""

    async def last(self, job_id: str) -> int:
        """The newest line's number, 0 for none."""

    async def cursor(self, job_id: str) -> OutputCursor | None:
        """Where an execution's output goes on behind what is stored."""

    async def seal(self, job_id: str) -> SealedLog:
        """Makes what is stored durable and answers its digest."""

    async def drop(self, job_id: str) -> bool:
        """Forgets all lines of the job; whether there were any."""

    async def wait(self, job_id: str, after: int) -> None:
        """Returns once there is a line behind line `after`."""

    async def close(self) -> None: ...
