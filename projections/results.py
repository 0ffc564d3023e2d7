"""The results view: of each of our own jobs that gave some, where they stand. What is still to be fetched after a
restart is read from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.event import AnyFact, Event
from dms.domain.job import Job
from projections.base import Projection

OFFERED, RECEIVED, LOST, REMOVED = "offered", "received", "lost", "removed"


class ResultsRow(Struct, frozen=True, kw_only=True, gc=False):
    """state: "offered" (to be fetched), "received", "lost" or "removed". Times: Unix µs, 0 while unknown."""

    job_id: str
    state: str
    size_bytes: int = 0
    sha256: str = ""
    files: int = 0
    saved_at: int = 0  # by the provider's clock
    received_at: int = 0
    reason: str = ""  # why they are lost, or removed


class Results(Projection[ResultsRow]):
    name: ClassVar[str] = "results"
    row_type = ResultsRow
    event_types: ClassVar[frozenset[type[Event]]] = frozenset((
        Job.ResultsOffered, Job.ResultsReceived, Job.ResultsLost, Job.ResultsRemoved,
    ))  # fmt: skip
    columns: ClassVar[Mapping[str, str]] = {"state": "TEXT"}

    def key(self, recorded: AnyFact) -> str | None:
        return recorded.key if recorded.event_type in self.event_types else None

    def column_values(self, row: ResultsRow) -> tuple[Any, ...]:
        return (row.state,)

    def apply(self, row: ResultsRow | None, recorded: AnyFact) -> ResultsRow | None:
        known = row or ResultsRow(job_id=recorded.key, state=LOST)
        match recorded.event:
            case Job.ResultsOffered() as offered:
                return ResultsRow(
                    job_id=recorded.key,
                    state=OFFERED,
                    size_bytes=offered.size_bytes,
                    sha256=offered.sha256,
                    files=offered.files,
                    saved_at=offered.saved_at,
                )
            case Job.ResultsReceived():
                return replace(known, state=RECEIVED, received_at=recorded.time)
            case Job.ResultsLost(reason=reason):
                return replace(known, state=LOST, reason=reason)
            case Job.ResultsRemoved(reason=reason):
                return replace(known, state=REMOVED, reason=reason)
        return row
