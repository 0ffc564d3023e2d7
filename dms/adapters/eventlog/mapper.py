"""eventsourcing's Mapper and EventStore for our envelopes, so that its Repository rebuilds our aggregates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import EventStore, JSONTranscoder, Mapper, StoredEvent

from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.domain.chain import GENESIS
from dms.domain.event import Recorded, decode, encode


class EventMapper(Mapper[str]):
    """Between Recorded envelopes and the library's StoredEvent; the body is msgspec's JSON."""

    def __init__(self) -> None:
        super().__init__(JSONTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        assert isinstance(domain_event, Recorded)  # noqa: S101  the library's type is wider than ours
        return StoredEvent(
            domain_event.originator_id, domain_event.originator_version, domain_event.topic, encode(domain_event.event)
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """Without its place in the log, which a StoredEvent does not carry."""
        return Recorded(
            0, str(stored_event.originator_id), stored_event.originator_version, stored_event.topic, 1, 0, b"", b"",
            b"", "", stored_event.state, GENESIS, decode(stored_event.topic, 1, stored_event.state),
        )  # fmt: skip


class RecordedEventStore(EventStore[str]):
    """Reads whole envelopes instead of the library's four fields, so that schema versions reach the decoder."""

    def __init__(self, recorder: SQLiteRecorder) -> None:
        super().__init__(EventMapper(), recorder)
        self._log = recorder

    def get(
        self,
        originator_id: Any,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Iterator[Any]:
        events = self._log.read_stream(originator_id, gt or 0)
        if lte is not None:
            events = [event for event in events if event.originator_version <= lte]
        return iter((events[::-1] if desc else events)[:limit])
