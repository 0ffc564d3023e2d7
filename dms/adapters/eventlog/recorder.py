"""The seam between the log and a database: eventsourcing's recorder protocol, with what the library has no place for.

Above it are aggregates, group commit, the sealing of personal data, subscriptions; none of it knows the database. Below
it are rows. What reaches it is sealed already, and what it gives is opened above (see mapper.py).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, DataError, Notification, StoredEvent, Subscription

from dms.adapters.eventlog.envelope import Draft, Enveloped, Place, Stored
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.subscription import BlockingSubscription, WakingRecorder
from dms.domain.event import in_the_clear, new_id_bytes


class LogRecorder(WakingRecorder):
    """One writer, many readers. Blocking. A database is put in by implementing the abstract methods; those of the
    library follow from them."""

    keys: Keyring

    @property
    @abstractmethod
    def head(self) -> int:
        """The newest position that was committed here."""

    # --- writing in two steps, so that many commands share one fsync ----------------------------------
    @abstractmethod
    def insert(self, drafts: Sequence[Draft]) -> list[Place]:
        """Opens a transaction and puts the events in it, chained behind the head. Must be followed by commit() or
        rollback(), from any thread. When it raises, it has rolled back."""

    @abstractmethod
    def commit(self) -> float:
        """Makes the inserted events durable. Seconds it took. When it raises, it has rolled back."""

    @abstractmethod
    def rollback(self) -> None: ...

    @abstractmethod
    def probe(self) -> None:
        """Writes and removes about as much as commands do. Raises what they would while nothing can be written."""

    @abstractmethod
    def set_note(self, name: str, value: bytes) -> None:
        """Keeps something about the log. Durable when it returns."""

    @abstractmethod
    def destroy_keys(self, scopes: Sequence[str]) -> int:
        """Destroys the keys of personal data of these scopes, all copies of them; answers how many there were."""

    # --- reading --------------------------------------------------------------------------------------
    @abstractmethod
    def read(
        self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "", until: int | None = None
    ) -> list[Stored]:
        """Events behind position `after`, in order, at most `limit`, none behind `until`."""

    @abstractmethod
    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        """All events of one aggregate behind a version."""

    @property
    @abstractmethod
    def first(self) -> int:
        """The position behind the archived ones."""

    @abstractmethod
    def position_at(self, time: int) -> int:
        """The newest position whose event is not younger than that (Unix µs)."""

    @abstractmethod
    def note(self, name: str) -> bytes | None:
        """What is kept about the log; None when there is none. Raises LogCorrupt for one that nobody of us wrote."""

    @abstractmethod
    def previous_hash(self, position: int) -> bytes:
        """The chain's link before a position. Raises LogCorrupt when there is none."""

    # --- eventsourcing's interface --------------------------------------------------------------------
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """In one transaction; answers their positions. Raises DataError for personal data that is not sealed."""
        if not stored_events:
            return []
        drafts = [event.envelope if isinstance(event, Enveloped) else _draft(event) for event in stored_events]
        for draft in drafts:
            _check_sealed(draft)
        places = self.insert(drafts)
        self.commit()
        return [place.position for place in places]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        events = self.read_stream(str(originator_id), gt or 0)
        if lte is not None:
            events = [event for event in events if event.originator_version <= lte]
        return [Enveloped.of(event) for event in (events[::-1] if desc else events)[:limit]]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = max(0, (start or 0) - (1 if inclusive_of_start else 0))
        found = self.read(after, limit, topics=topics, until=stop)
        return [Notification(e.originator_id, e.originator_version, e.topic, e.state, e.position) for e in found]

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        return BlockingSubscription(self, gt, topics)

    def _tell(self) -> None:
        """Those who follow, of a commit."""
        for listener in self.listeners:
            listener.put(None)


def _draft(event: StoredEvent) -> Draft:
    """Of a program that knows the library's four fields only."""
    return Draft(
        str(event.originator_id), event.originator_version, event.topic, event.state, 1, time.time_ns() // 1000,
        new_id_bytes(), b"", b"", "",
    )  # fmt: skip


def _check_sealed(draft: Draft) -> None:
    try:
        is_open = in_the_clear(draft.topic, draft.schema_version, draft.state)
    except ValueError as error:
        raise DataError(f"{draft.topic} of {draft.originator_id} is not a JSON object: {error}") from error
    if is_open:
        raise DataError(f"{draft.topic} of {draft.originator_id} tells of a person in the clear: the mapper seals it")
