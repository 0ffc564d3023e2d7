"""The transfers view: one row a file given to or taken from a peer, of both directions, open or over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.event import AnyFact, Event, Unknown
from dms.domain.transfer import Transfer, TransferState
from projections.base import Projection


class TransferRow(Struct, frozen=True, kw_only=True, gc=False):
    """Times: Unix microseconds. saved_as: at the receiver, once it is whole."""

    transfer_id: str
    direction: str  # "in" | "out"
    peer_id: str
    name: str
    size_bytes: int
    sha256: str
    state: str
    offered_at: int
    changed_at: int
    saved_as: str = ""
    reason: str = ""


class Transfers(Projection[TransferRow]):
    name: ClassVar[str] = "transfers"
    row_type = TransferRow
    event_types: ClassVar[frozenset[type[Event]]] = Transfer.event_types() | {Unknown}
    columns: ClassVar[Mapping[str, str]] = {"direction": "TEXT", "state": "TEXT"}

    def key(self, recorded: AnyFact) -> str | None:
        return recorded.key if recorded.kind == Transfer.KIND and recorded.event_type in self.event_types else None

    def column_values(self, row: TransferRow) -> tuple[Any, ...]:
        return (row.direction, row.state)

    def apply(self, row: TransferRow | None, recorded: AnyFact) -> TransferRow | None:
        event, time = recorded.event, recorded.time
        if isinstance(event, Transfer.Offered):
            return TransferRow(
                transfer_id=recorded.key,
                direction=event.direction,
                peer_id=event.peer_id,
                name=event.name,
                size_bytes=event.size_bytes,
                sha256=event.sha256,
                state=TransferState.OFFERED,
                offered_at=event.offered_at,
                changed_at=time,
            )
        if row is None:
            return None
        match event:
            case Transfer.Accepted():
                return replace(row, state=TransferState.ACCEPTED, changed_at=time)
            case Transfer.Completed(saved_as=saved_as):
                return replace(row, state=TransferState.COMPLETED, saved_as=saved_as, changed_at=time)
            case Transfer.Failed(reason=reason):
                return replace(row, state=TransferState.FAILED, reason=reason, changed_at=time)
            case Transfer.Cancelled(reason=reason):
                return replace(row, state=TransferState.CANCELLED, reason=reason, changed_at=time)
        return row
