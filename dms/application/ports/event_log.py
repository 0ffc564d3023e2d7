"""The event log: the one durable truth, its archive, and the views made from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from dms.domain.aggregate import Aggregate
from dms.domain.chain import SignedRecord
from dms.domain.event import Event, Recorded

A = TypeVar("A", bound=Aggregate)


class EventLog(Protocol):
    """The one durable truth. A saved event has a position and is on disk before anyone hears of it."""

    @property
    def head(self) -> int:
        """The newest committed position; 0 for an empty log."""

    @property
    def first(self) -> int:
        """The first position that is still in the log; those before it are archived. 1 for an empty log."""

    def load(self, aggregate_type: type[A], key: str) -> A | None:
        """The one live object of that aggregate, decided but uncommitted events included."""

    async def save(self, *aggregates: Aggregate) -> int:
        """Appends the pending events of all of them in one transaction; answers the head after it.
        When it raises (LogUnavailable), nothing was appended and the objects must be loaded anew."""

    async def written(self) -> bool:
        """Returns once all that is decided now is on the disk: True; or was not written, and so never was: False."""

    async def read(self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "") -> Sequence[Recorded]:
        """At most `limit` events behind position `after`, in order."""

    async def position_at(self, time: int) -> int:
        """The newest position whose event is not younger than that time (Unix µs); 0 for none."""

    def time_at(self, position: int) -> int:
        """When the event at that position was recorded (Unix µs); of an archived one, at most a block's length before.
        Blocking, for one row."""

    def subscribe(
        self, after: int, *, topics: Sequence[str] = (), stream: str = ""
    ) -> AsyncGenerator[Sequence[Recorded], None]:
        """Batches of events behind `after`, for ever: catch up first, then live."""

    def previous_hash(self, position: int) -> bytes:
        """The link of the hash chain before the event at `position`."""

    def open_record(self, record: SignedRecord) -> Event:
        """What a peer's record of a job that we share says, its personal fields open. Raises PeerMisbehaved when it
        can't be read, or keeps what tells of a person otherwise than under the job's key: it could not be erased."""

    # --- keys of personal data: see domain/sealing.py ---
    def seal_key(self, scope: str) -> bytes:
        """The 32 bytes under which that scope's personal fields are sealed; made when there are none yet."""

    def adopt_seal_key(self, scope: str, secret: bytes) -> None:
        """Takes a key from the peer that shares the scope, unless there is one already. Raises InvalidInput for a key
        that another scope has or had."""

    def seal(self, scope: str, text: str, purpose: str) -> str:
        """A token in place of what no view, stream or export may show, not even to who may read the scope's personal
        fields. It is opened for the same purpose only."""

    def unseal(self, scope: str, token: str, purpose: str) -> str | None:
        """None: it was not sealed under that scope's key for that purpose, or the key is destroyed."""

    async def destroy_seal_keys(self, scopes: Sequence[str]) -> int:
        """Makes what was sealed under them unreadable for ever, on disk and in memory; answers how many of theirs are.
        Safe to repeat. Raises LogUnavailable."""

    def pseudonym(self, text: str) -> str:
        """32 hex characters: always the same for the same text on this node, and of no use anywhere else."""

    @property
    def trouble(self) -> str:
        """Why nothing can be recorded just now; empty when it can, as far as is known."""

    def on_trouble(self, react: Callable[[], None]) -> None:
        """Calls `react` on the loop when `trouble` changed."""

    def index(self, kind: type[A], restate: Callable[[str, A | None], None]) -> None:
        """Keeps an index in memory of the aggregates of that kind: `restate(key, aggregate)` is called as soon as
        events of one were decided, before they are on the disk, so that no two decisions are made on the same state.
        When they could not be written it is called again with what the log has, None for nothing. So what an index
        says of an aggregate must follow from that aggregate alone."""


class ViewStore(Protocol):
    """The read models on the disk."""

    async def renew(self) -> None:
        """Makes every one anew from the log; nothing of the old rows stays in the file or in memory. Raises
        LogUnavailable when not all of that could be done."""


class ArchivedSegment(Struct, frozen=True, kw_only=True):
    """A file of the archive. newest: the greatest time of its events, Unix µs. hash: the chain's link at `last`, hex.
    sha256: of the file's bytes when it was written, hex. state: "ok", "missing" or "damaged" (of another size)."""

    file: str
    first: int
    last: int
    newest: int
    size_bytes: int
    sha256: str
    hash: str
    state: str


class ArchiveStep(Struct, frozen=True, kw_only=True):
    """segment: what was written; None for nothing. rows_removed: of events that are in the archive alone now.
    more: another step may find something to do."""

    segment: ArchivedSegment | None
    rows_removed: int
    more: bool


class EventArchive(Protocol):
    """The oldest part of the event log, in files. What reads the log reads them too."""

    async def step(self, before: int, at_least: int) -> ArchiveStep:
        """Archives the oldest events, when there are so many, none younger than that time (Unix µs): one file at most.
        May be repeated after a cut at any point. Raises LogUnavailable."""

    async def segments(self, after: int, limit: int) -> Sequence[ArchivedSegment]:
        """At most `limit` of those that begin behind position `after`, in order."""
