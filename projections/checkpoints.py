"""The checkpoints view: of each of our own jobs that has one, the newest and where it stands. What is still to
be fetched after a restart is read from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.event import AnyFact, Event
from dms.domain.job import Job
from projections.base import Projection

OFFERED, RECEIVED, LOST = "offered", "received", "lost"


class CheckpointRow(Struct, frozen=True, kw_only=True, gc=False):
    """state: "offered" (to be fetched), "received" or "lost". Times: Unix µs, 0 while unknown."""

    job_id: str
    state: str
    number: int
    name: str
    size_bytes: int
    sha256: str
    saved_at: int  # by the provider's clock
    received_at: int = 0
    reason: str = ""  # why it is lost


class Checkpoints(Projection[CheckpointRow]):
    name: ClassVar[str] = "checkpoints"
    row_type = CheckpointRow
    event_types: ClassVar[frozenset[type[Event]]] = frozenset((
        Job.CheckpointOffered, Job.CheckpointReceived, Job.CheckpointLost,
    ))  # fmt: skip
    columns: ClassVar[Mapping[str, str]] = {"state": "TEXT"}

    def key(self, recorded: AnyFact) -> str | None:
        return recorded.key if recorded.event_type in self.event_types else None

    def column_values(self, row: CheckpointRow) -> tuple[Any, ...]:
        return (row.state,)

    def apply(self, row: CheckpointRow | None, recorded: AnyFact) -> CheckpointRow | None:
        match recorded.event:
            case Job.CheckpointOffered() as offered:
                return CheckpointRow(
                    job_id=recorded.key,
                    state=OFFERED,
                    number=offered.number,
                    name=offered.name,
                    size_bytes=offered.size_bytes,
                    sha256=offered.sha256,
                    saved_at=offered.saved_at,
                )
            case Job.CheckpointReceived(number=number) if row is not None and number == row.number:
                return replace(row, state=RECEIVED, received_at=recorded.time)
            case Job.CheckpointLost(number=number, reason=reason) if row is not None and number == row.number:
                return replace(row, state=LOST, reason=reason)
        return row  # of one that a newer offer has replaced
