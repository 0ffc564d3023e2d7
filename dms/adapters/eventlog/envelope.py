"""An event as a database keeps it: the library's StoredEvent, with the fields that it has no place for, and the chain
that each of them is a link of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventsourcing.persistence import StoredEvent

from dms.domain.chain import link


@dataclass(frozen=True)
class Draft(StoredEvent):
    """On its way into the log: all but its place there. state: the JSON object to be stored, its personal fields
    sealed. time: Unix µs. id, correlation, causation: 16 bytes, the last two empty when there is none."""

    originator_id: str
    schema_version: int
    time: int
    id: bytes
    correlation: bytes
    causation: bytes
    traceparent: str


@dataclass(frozen=True)
class Stored(Draft):
    """position: global, gap-free, from 1, in commit order. hash: the link of the chain here (32 bytes)."""

    position: int
    hash: bytes


def chained(position: int, previous: bytes, drafts: Sequence[Draft]) -> list[Stored]:
    """Their places behind a position, whose link is `previous`."""
    placed: list[Stored] = []
    for draft in drafts:
        position += 1
        previous = link(
            previous, position, draft.originator_id.encode(), draft.originator_version, draft.topic.encode(),
            draft.schema_version, draft.time, draft.id, draft.correlation, draft.causation, draft.traceparent.encode(),
            draft.state,
        )  # fmt: skip
        placed.append(
            Stored(
                draft.originator_id, draft.originator_version, draft.topic, draft.state, draft.schema_version,
                draft.time, draft.id, draft.correlation, draft.causation, draft.traceparent, position, previous,
            )
        )  # fmt: skip
    return placed
