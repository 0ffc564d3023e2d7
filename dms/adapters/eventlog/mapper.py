"""Between events and what a database keeps of them: the one place where bodies are sealed on their way into a log, and
opened on their way out. With it eventsourcing's own EventStore and Repository write and read our aggregates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import EventStore, JSONTranscoder, Mapper, StoredEvent

from dms.adapters.eventlog.envelope import Draft, Stored
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.recorder import LogRecorder
from dms.domain.event import Event, Recorded, decode, encode
from dms.domain.sealing import scope_of
from dms.errors import LogCorrupt


class EventMapper(Mapper[str]):
    """The body is msgspec's JSON; personal fields are sealed under the key of their stream's scope."""

    def __init__(self, keys: Keyring) -> None:
        super().__init__(JSONTranscoder())
        self._keys = keys

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> Draft:
        """Whatever its place and its data are: they come of being written."""
        one = domain_event
        assert isinstance(one, Recorded)  # noqa: S101  the library's type is wider than ours
        return Draft(
            one.originator_id, one.originator_version, one.topic,
            encode(one.event, partial(self._keys.seal, scope_of(one.originator_id))),
            one.schema_version, one.time, one.id, one.correlation, one.causation, one.traceparent,
        )  # fmt: skip

    def to_domain_event(self, stored_event: StoredEvent) -> Recorded:
        """With its personal fields open as far as the keys are there. Raises LogCorrupt."""
        stored = stored_event
        assert isinstance(stored, Stored)  # noqa: S101
        try:
            event = decode(stored.topic, stored.schema_version, stored.state, self._keys)
        except LogCorrupt as error:
            raise LogCorrupt(
                f"position {stored.position} ({stored.topic} of {stored.originator_id}) was changed: {error}"
            ) from error
        return recorded(stored, event)


def recorded(stored: Stored, event: Event) -> Recorded:
    """event: what its state says."""
    return Recorded(
        stored.position, stored.originator_id, stored.originator_version, stored.topic, stored.schema_version,
        stored.time, stored.id, stored.correlation, stored.causation, stored.traceparent, stored.state, stored.hash,
        event,
    )  # fmt: skip


class LogStore(EventStore[str]):
    """The library's EventStore, which also reads across aggregates."""

    mapper: EventMapper
    recorder: LogRecorder

    def __init__(self, recorder: LogRecorder) -> None:
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
        return [self.mapper.to_domain_event(one) for one in stored]

    def read_stream(self, stream: str, after_version: int = 0) -> list[Recorded]:
        """All events of one aggregate behind a version. Raises LogCorrupt."""
        return [self.mapper.to_domain_event(one) for one in self.recorder.read_stream(stream, after_version)]
