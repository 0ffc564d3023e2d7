"""The erasures view: what was asked to be erased, and whether it is. After a restart those that are not go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.erasure import Erasure
from dms.domain.event import AnyFact, Event, Unknown
from projections.base import Projection

REQUESTED, COMPLETED = "requested", "completed"


class ErasureRow(Struct, frozen=True, kw_only=True):
    """state: "requested" or "completed". scopes: how many jobs, transfers and the like. Times: Unix µs."""

    erasure_id: str
    state: str
    scopes: int
    requested_at: int
    completed_at: int = 0
    keys: int = 0
    files: int = 0


class Erasures(Projection[ErasureRow]):
    name: ClassVar[str] = "erasures"
    row_type = ErasureRow
    event_types: ClassVar[frozenset[type[Event]]] = Erasure.event_types() | {Unknown}
    columns: ClassVar[Mapping[str, str]] = {"state": "TEXT"}

    def key(self, recorded: AnyFact) -> str | None:
        return recorded.key if recorded.kind == Erasure.KIND and recorded.event_type in self.event_types else None

    def column_values(self, row: ErasureRow) -> tuple[Any, ...]:
        return (row.state,)

    def apply(self, row: ErasureRow | None, recorded: AnyFact) -> ErasureRow | None:
        match recorded.event:
            case Erasure.Requested(scopes=scopes):
                return ErasureRow(
                    erasure_id=recorded.key,
                    state=REQUESTED,
                    scopes=len(scopes),
                    requested_at=recorded.time,
                )
            case Erasure.Completed() as done if row is not None:
                return replace(row, state=COMPLETED, completed_at=recorded.time, keys=done.keys, files=done.files)
        return row
