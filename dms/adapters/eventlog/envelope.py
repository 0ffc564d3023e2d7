"""An event as a database keeps it: the library's StoredEvent, with the fields that it has no place for, and the chain
that each of them is a link of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class Place(NamedTuple):
    """Of an event in the log, as Stored has it."""

    position: int
    hash: bytes


def chained(head: Place, drafts: Sequence[Draft]) -> list[Place]:
    """The places of the drafts behind the head."""
    position, previous = head
    places: list[Place] = []
    for draft in drafts:
        position += 1
        previous = link(
            previous, position, draft.originator_id.encode(), draft.originator_version, draft.topic.encode(),
            draft.schema_version, draft.time, draft.id, draft.correlation, draft.causation, draft.traceparent.encode(),
            draft.state,
        )  # fmt: skip
        places.append(Place(position, previous))
    return places
