"""What a read model is: a pure fold over the log, one row a key, kept with the position it has reached.

A row is the whole state of one key (a job, a provider). The same fold (Folds) runs live, in a rebuild, in a check and
for a moment in the past; there is no second code path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from msgspec import Struct

from dms.domain.event import AnyFact, Event

R = TypeVar("R", bound=Struct)
S = TypeVar("S", bound=Struct)


class LeftOut(Struct, frozen=True):
    """What a view could not take in, by a fault of its fold or by an absurd value. position, topic, error: of the first
    such event, error the kind of it; events: how many."""

    position: int
    topic: str
    error: str
    events: int


class Projection(Generic[R]):
    """Subclasses are stateless. version: raise it when the fold changes, and the view is rebuilt."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    row_type: type[R]
    columns: ClassVar[Mapping[str, str]] = {}
    """SQL columns beside key and body, for filters, order and sums: name -> SQLite type."""

    indexed: ClassVar[Sequence[str] | None] = None
    """Those of them with an index, several with commas between; None: each with one. A column that is only looked at
    beside another's index needs none."""

    event_types: ClassVar[frozenset[type[Event]]]
    """Those that `key` has a use for; a fold shows it no others."""
    places_only: ClassVar[frozenset[type[Event]]] = frozenset()
    """Those of them of which it counts that they were, not what they say: a bulk read does not decode their bodies."""

    def key(self, recorded: AnyFact) -> str | None:
        """The row that this event changes; None when the view has no use for it."""
        raise NotImplementedError

    def apply(self, row: R | None, recorded: AnyFact) -> R | None:
        """The row after the event; None deletes it. Pure."""
        raise NotImplementedError

    def reads(self, event_type: type[Event]) -> bool:
        """Whether it looks into the bodies of such events."""
        return self.uses(event_type) and event_type not in self.places_only

    def uses(self, event_type: type[Event]) -> bool:
        return event_type in self.event_types

    def streams(self, key: str) -> tuple[str, ...] | None:
        """The aggregates that this row is folded from, so that its past can be folded from them alone.
        None: from many; then the whole view leaves snapshots. The same for every key. One that names them has the
        columns BEGUN and POSITION, of the oldest and of the newest event that is counted in, and deletes no row."""
        del key
        return None

    def column_values(self, row: R) -> tuple[Any, ...]:
        """In the order of `columns`."""
        del row
        return ()


class Rows(Protocol):
    """Of one view, by key: a dict, or what stands for a table."""

    def get(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, row: Any, /) -> None: ...
    def pop(self, key: str, default: None, /) -> Any: ...


LeaveOut = Callable[[str, AnyFact, Exception], None]
"""Hears of an event that a view, by its name, can't take in."""


def _unheard(view: str, recorded: AnyFact, error: Exception) -> None:
    """For folds that nobody looks after."""
    del view, recorded, error


def fold(projection: Projection[R], rows: dict[str, R], events: Iterable[AnyFact]) -> None:
    """Moves the rows on by the events, in place."""
    Folds([(projection, rows)]).take(events)


class Folds:
    """Folds of the same events into many views: each event is shown to the views that use it and to no other. One that
    a view can't take in is left out of it, and its row stays as it was. An error of `rows` itself ends the fold."""

    def __init__(self, views: Iterable[tuple[Projection[Any], Rows]], leave_out: LeaveOut = _unheard) -> None:
        self._views, self._leave_out = list(views), leave_out
        self._interested = _Interested(self._views)

    def take(self, events: Iterable[AnyFact]) -> None:
        """Moves the rows on, in place."""
        interested = self._interested
        for recorded in events:
            for projection, rows in interested[recorded.event_type]:
                try:
                    key = projection.key(recorded)
                except Exception as error:  # noqa: BLE001  whatever it is, one event must not end a view
                    self._leave_out(projection.name, recorded, error)
                    continue
                if key is None:
                    continue
                before = rows.get(key)
                try:
                    row = projection.apply(before, recorded)
                except Exception as error:  # noqa: BLE001
                    self._leave_out(projection.name, recorded, error)
                    continue
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row

    def reads(self, event_type: type[Event]) -> bool:
        """Whether any of the views looks into the bodies of such events."""
        return any(projection.reads(event_type) for projection, _ in self._views)


class _Interested(dict[type[Event], list[tuple[Projection[Any], Rows]]]):
    """The views that use a type of event; looked up once for each."""

    def __init__(self, views: Sequence[tuple[Projection[Any], Rows]]) -> None:
        super().__init__()
        self._views = views

    def __missing__(self, event_type: type[Event]) -> list[tuple[Projection[Any], Rows]]:
        found = [(projection, rows) for projection, rows in self._views if projection.uses(event_type)]
        self[event_type] = found
        return found


KEY = "key"  # may stand for a column
BEGUN, POSITION = "begun", "position"


class Between(Struct, frozen=True, kw_only=True):
    """From the least on, and below the other one; None: no bound."""

    least: int | str | None = None
    below: int | str | None = None


class Begins(Struct, frozen=True):
    """With that text."""

    text: str


class Contains(Struct, frozen=True):
    """That text somewhere, letter for letter."""

    text: str


Condition = str | Sequence[str] | Between | Begins | Contains
"""On a column: its value, one of several, or as the types say."""
Where = Mapping[str, Condition]


class Page(Struct, frozen=True, kw_only=True):
    """rows: in the order asked for. next: what to go on after, empty at the end. total: how many rows fit on all pages,
    where that was asked for."""

    rows: Sequence[Any]
    next: str = ""
    total: int = 0


class Views(Protocol):
    """Reading the persisted views. A read after `wait(p)` shows everything up to position p."""

    async def wait(self, position: int) -> None:
        """Returns once every view has taken in that position. Raises LogUnavailable when they are no longer kept."""

    async def get(self, projection: Projection[S], key: str) -> S | None: ...

    async def page(
        self,
        projection: Projection[S],
        *,
        limit: int,
        after: str = "",
        where: Where | None = None,
        newest_first: bool = False,
        order_by: str = "",
        offset: int = 0,
        counted: bool = False,
    ) -> Page:
        """Rows by key, or by a column and the key, upwards or (newest_first) downwards. after: a key, or with a column
        the `next` of the page before. offset: so many rows behind it are passed over. counted: with the total. Raises
        InvalidInput for a column that there is not, and for an `after` that is none."""

    async def totals(
        self, projection: Projection[Any], columns: Sequence[str], where: Where, sums: Sequence[str] = ()
    ) -> Mapping[tuple[Any, ...], tuple[int, ...]]:
        """Of the rows that have the same values in those columns: how many, and the sums of others."""

    async def rebuild(self, name: str) -> int:
        """Empties the view and folds the log again from position 0; answers the position reached.
        Raises NotFound for an unknown name."""

    def positions(self) -> Mapping[str, int]:
        """View name -> position reached."""


class LiveViews(Views, Protocol):
    """The views that follow the log, and those of its past."""

    def left_out(self) -> Mapping[str, LeftOut]:
        """View name -> what it could not take in; views that took in everything are not named."""

    def at(self, position: int) -> Views:
        """The views as they were when that position was the newest."""
