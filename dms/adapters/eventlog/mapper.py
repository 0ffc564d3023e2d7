"""Between events and what a database keeps of them: the one place where bodies are sealed on their way into a log, and
opened on their way out. With it eventsourcing's own EventStore and Repository write and read our aggregates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import DataError, EventStore, JSONTranscoder, Mapper, StoredEvent

from dms.adapters.eventlog.envelope import Draft, Enveloped, Place, Stored
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.recorder import LogRecorder
from dms.domain.event import EVENT_TYPES, Event, Recorded, Unknown, decode, encode
from dms.domain.sealing import scope_of
from dms.errors import LogCorrupt
from dms.struct_types import complete


class EventMapper(Mapper[str]):
    """The body is msgspec's JSON; personal fields are sealed under the key of their stream's scope."""

    def __init__(self, keys: Keyring) -> None:
        super().__init__(JSONTranscoder())
        self._keys = keys

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> Enveloped:
        """Whatever its place and its data are: they come of being written. Raises DataError for an event that this
        program does not know."""
        one = domain_event
        assert isinstance(one, Recorded)  # noqa: S101  the library's type is wider than ours
        if isinstance(one.event, Unknown):
            raise DataError(f"{one.topic} of {one.originator_id} can't be written: a newer program made it")
        return Enveloped.of(
            self.draft(
                one.originator_id, one.originator_version, one.event, one.time, one.id, one.correlation, one.causation,
                one.traceparent,
            )
        )  # fmt: skip

    def draft(
        self,
        stream: str,
        version: int,
        event: Event,
        time: int,
        event_id: bytes,
        correlation: bytes,
        causation: bytes,
        traceparent: str,
    ) -> Draft:
        """The event as it is written, sealed."""
        seal = partial(self._keys.seal, scope_of(stream)) if event.PERSONAL else None
        return Draft(
            stream, version, event.TOPIC, encode(event, seal), event.VERSION, time, event_id, correlation, causation,
            traceparent,
        )  # fmt: skip

    def to_domain_event(self, stored_event: StoredEvent) -> Recorded:
        """See `opened`."""
        assert isinstance(stored_event, Enveloped)  # noqa: S101
        assert isinstance(stored_event.envelope, Stored)  # noqa: S101
        return self.opened(stored_event.envelope)

    def opened(self, stored: Stored) -> Recorded:
        """With its personal fields open as far as the keys are there. Raises LogCorrupt."""
        try:
            event = decode(stored.topic, stored.schema_version, stored.state, self._keys)
        except LogCorrupt as error:
            raise LogCorrupt(
                f"position {stored.position} ({stored.topic} of {stored.originator_id}) was changed: {error}"
            ) from error
        return recorded(stored, stored, event)


def recorded(draft: Draft, place: Place | Stored, event: Event) -> Recorded:
    """event: what its state says."""
    return Recorded(
        place.position, draft.originator_id, draft.originator_version, draft.topic, draft.schema_version, draft.time,
        draft.id, draft.correlation, draft.causation, draft.traceparent, draft.state, place.hash, event,
    )  # fmt: skip


class Restatements(EventStore[str]):
    """In the place of the library's snapshots: of each aggregate the newest event that tells all of it, so that nobody
    reads from its first word on what has been said anew thousands of times."""

    def __init__(self, store: LogStore) -> None:
        super().__init__(store.mapper, store.recorder)
        self._store = store
        self._topics: dict[str, list[str]] = {}
        for topic, cls in EVENT_TYPES.items():
            if cls.TELLS_ALL:
                self._topics.setdefault(topic.partition(".")[0], []).append(topic)

    def get(
        self,
        originator_id: str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Iterator[Recorded]:
        """Of now, whatever else is asked for: the past is read whole."""
        topics = self._topics.get(originator_id.partition("-")[0], ())
        found = self._store.newest_of(originator_id, topics) if topics and lte is None else None
        if found is not None and found.event.TELLS_ALL:  # one that a newer program wrote is not understood
            yield found


class LogStore(EventStore[str]):
    """The library's EventStore, which also reads across aggregates."""

    mapper: EventMapper
    recorder: LogRecorder

    def __init__(self, recorder: LogRecorder) -> None:
        complete()  # reads are made by many threads
        super().__init__(EventMapper(recorder.keys), recorder)

    def max_notification_id(self) -> int | None:
        """See LogRecorder."""
        return self.recorder.max_notification_id()

    def previous_hash(self, position: int) -> bytes:
        """See LogRecorder."""
        return self.recorder.previous_hash(position)

    def read(
        self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "", until: int | None = None
    ) -> list[Recorded]:
        """As LogRecorder.read, opened. Raises LogCorrupt."""
        stored = self.recorder.read(after, limit, topics=topics, stream=stream, until=until)
        return [self.mapper.opened(one) for one in stored]

    def newest_of(self, stream: str, topics: Sequence[str]) -> Recorded | None:
        """As LogRecorder.newest_of, opened. Raises LogCorrupt."""
        found = self.recorder.newest_of(stream, topics)
        return None if found is None else self.mapper.opened(found)

    def read_stream(self, stream: str, after_version: int = 0) -> list[Recorded]:
        """All events of one aggregate behind a version. Raises LogCorrupt."""
        return [self.mapper.opened(one) for one in self.recorder.read_stream(stream, after_version)]
