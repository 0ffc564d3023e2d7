"""An event as a database keeps it, with the fields that eventsourcing's StoredEvent has no place for, and the
chain that each is a link of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventsourcing.persistence import StoredEvent
from msgspec import Struct

from dms.domain.chain import link


class Draft(Struct, frozen=True, gc=False):
    """On its way into the log: all but its place there. state: the JSON object to be stored, its personal fields
    sealed. time: Unix µs. id, correlation, causation: 16 bytes, the last two empty when there is none."""

    originator_id: str
    originator_version: int
    topic: str
    state: bytes
    schema_version: int
    time: int
    id: bytes
    correlation: bytes
    causation: bytes
    traceparent: str


class Stored(Draft, frozen=True, gc=False):
    """position: global, gap-free, from 1, in commit order. hash: the link of the chain here (32 bytes)."""

    position: int
    hash: bytes


@dataclass(frozen=True)
class Enveloped(StoredEvent):
    """As eventsourcing takes and gives it. Only where the library asks: such an object costs ten times a Struct,
    and the garbage collector has to look at it."""

    envelope: Draft

    @classmethod
    def of(cls, draft: Draft) -> Enveloped:
        return cls(draft.originator_id, draft.originator_version, draft.topic, draft.state, draft)


class Place(Struct, frozen=True, gc=False):
    """Of an event in the log, as Stored has it."""

    position: int
    hash: bytes


def chained(head: Place, drafts: Sequence[Draft]) -> list[Place]:
    """The places of the drafts behind the head."""
    position, previous = head.position, head.hash
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
