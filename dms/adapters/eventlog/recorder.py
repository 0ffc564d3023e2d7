"""The seam between the log and a database: eventsourcing's recorder protocol, with what the library has no place for.

Above it are aggregates, group commit, the sealing of personal data, verification, archiving, subscriptions; none of it
knows the database. Below it are rows, in the modules named after their database. What reaches it is sealed already, and
what it gives is opened above (see mapper.py). All of it raises eventsourcing's errors and ours, never the database's.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    DataError,
    Notification,
    OperationalError,
    PersistenceError,
    StoredEvent,
    Subscription,
)

from dms.adapters.eventlog.archive_reader import Archived
from dms.adapters.eventlog.envelope import Draft, Enveloped, Place, Stored
from dms.adapters.eventlog.keyring import Keyring
from dms.adapters.eventlog.segments import Block, Segment
from dms.adapters.eventlog.subscription import BlockingSubscription, WakingRecorder
from dms.disk import is_short
from dms.domain.event import in_the_clear, new_id_bytes


class LogBusy(OperationalError):
    """Another program holds the database."""


class MovedRows(NamedTuple):
    """Of a stream, its events up to a version, which are archived: how many leave the table."""

    stream: str
    version: int
    rows: int


LeanRow = tuple[int, int, int, int, bytes]
"""(position, number of the stream, number of the topic, time, data)"""


class LogRecorder(WakingRecorder):
    """One writer, many readers. Blocking. A database is put in by implementing the abstract methods; those of the
    library follow from them.

    What can't be done raises PersistenceError: IntegrityError when an event of that version is there already,
    OperationalError while it is passing trouble (see `is_passing`), LogBusy among it."""

    keys: Keyring
    archived: Archived
    where: str
    """What is kept where, for people: the database's file, or its address without secrets."""

    @abstractmethod
    def fault(self) -> str:
        """What happened to the files in use behind the database's back; empty while all is well. Takes microseconds."""

    @abstractmethod
    def reopened(self) -> LogRecorder:
        """Another one of the same log, only to read, that holds nothing of this one up. Raises LogCorrupt."""

    @abstractmethod
    def interrupt(self) -> None:
        """From another thread: what is read just now ends with an error."""

    @abstractmethod
    def close(self) -> None: ...

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
        """Destroys the keys of personal data of these scopes, all copies of them; answers how many there were. Raises
        LogUnavailable when a copy may be left: to be tried again."""

    @abstractmethod
    def note_archived(self, segment: Segment, blocks: Sequence[Block]) -> None:
        """From now on readers take the segment's positions from its file. Durable when it returns."""

    @abstractmethod
    def drop_archived(self, parts: Sequence[MovedRows]) -> None:
        """Takes their rows out of the table, and notes which blocks hold them."""

    # --- reading --------------------------------------------------------------------------------------
    @abstractmethod
    def read(
        self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "", until: int | None = None
    ) -> list[Stored]:
        """Events behind position `after`, in order, at most `limit`, none behind `until`."""

    @abstractmethod
    def read_stream(self, stream: str, after_version: int = 0) -> list[Stored]:
        """All events of one aggregate behind a version."""

    @abstractmethod
    def newest_of(self, stream: str, topics: Sequence[str]) -> Stored | None:
        """The newest event of one aggregate that is of one of these topics, unless it has left the table."""

    @abstractmethod
    def streams(self, kind: str) -> list[str]:
        """Names of the streams of a kind, in the order made."""

    @abstractmethod
    def lean_rows(
        self, after: int, limit: int, until: int, unread: Collection[int]
    ) -> tuple[list[LeanRow], Mapping[int, tuple[str, str]]]:
        """In bulk, of the table alone: each event, and (kind, key) of each stream; see facts.py. unread: topics whose
        data is not wanted, and None."""

    @abstractmethod
    def topics(self) -> dict[int, tuple[str, int]]:
        """Name and schema version by number."""

    @property
    @abstractmethod
    def first(self) -> int:
        """The position behind the archived ones."""

    @abstractmethod
    def position_at(self, time: int) -> int:
        """The newest position whose event is not younger than that (Unix µs)."""

    @abstractmethod
    def time_at(self, position: int) -> int:
        """See EventLog.time_at. Raises LogCorrupt when there is no such position."""

    @abstractmethod
    def note(self, name: str) -> bytes | None:
        """What is kept about the log; None when there is none. Raises LogCorrupt for one that nobody of us wrote."""

    @abstractmethod
    def previous_hash(self, position: int) -> bytes:
        """The chain's link before a position. Raises LogCorrupt when there is none."""

    # --- for the archive --------------------------------------------------------------------------------
    @abstractmethod
    def older_until(self, time: int, most: int) -> tuple[int, int]:
        """(the last position of those behind the archived ones, at most so many, that count as not younger than that
        (Unix µs), 0 for none; how many that are not younger stand behind it among so many).

        Positions ascend with time, but a clock may have been wrong for a while: the position is where old and young
        part best, which few that jumped ahead, or back, do not change."""

    @abstractmethod
    def streams_between(self, after: int, until: int, limit: int) -> tuple[list[str], int]:
        """(streams with rows in the table there, the position up to which none is left out). limit: of rows that are
        looked at."""

    # --- for verification ------------------------------------------------------------------------------
    @abstractmethod
    def unchecked(self, after: int, until: int, limit: int = -1) -> list[Stored]:
        """Rows of the table as they stand: a value that was changed may be of any type. Raises LogCorrupt."""

    @abstractmethod
    def key_rows(self) -> Iterable[tuple[Any, ...]]:
        """As they stand: (number, scope, destroyed, id, secret) of all keys, by number."""

    @abstractmethod
    def structure_faults(self) -> Sequence[str]:
        """What the chain does not see: indices that miss a row, pages that nothing leads to."""

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


def is_passing(error: BaseException) -> bool:
    """Whether an error, or what caused it, says nothing of what is kept: the database is busy, full or away,
    descriptors or memory are short."""
    cause = error if isinstance(error, PersistenceError) else error.__cause__
    return isinstance(cause, OperationalError) or is_short(cause)


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
