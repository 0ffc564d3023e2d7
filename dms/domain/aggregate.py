"""The base of our aggregates: commands decide and may raise, `_past_participle` methods only apply.

Satisfies eventsourcing's MutableAggregateProtocol, so the library's Repository rebuilds it from
its EventStore. The library's own `@event` decorator is not used: it costs 9 µs an event, as
much as a whole command may cost here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self, TypeVar

from dms.domain.event import Event, Recorded
from dms.domain.rules import ANYTHING, Life, Rules, kind_of
from dms.errors import OutOfOrder

Apply = Callable[[Any, Any], None]
F = TypeVar("F", bound=Apply)


def applies(event_type: type[Event]) -> Callable[[F], F]:
    """Marks the method that changes the state for one type of event."""

    def mark(method: F) -> F:
        method.__dict__["event_type"] = event_type
        return method

    return mark


class Aggregate:
    """id: the stream's name in the log, `<kind>-<key>`. version: of the last event applied, from 1."""

    KIND: ClassVar[str]
    RULES: ClassVar[Rules[Any]] = ANYTHING
    """What may follow what."""
    _appliers: ClassVar[dict[type[Event], Apply]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        marked = {m.event_type: m for m in _members(cls) if hasattr(m, "event_type")}
        cls._appliers = {
            kind: marked[base] for kind in cls.event_types() for base in kind.__mro__[:2] if base in marked
        }

    def __init__(self, key: str) -> None:
        self.key = key
        self.id = f"{self.KIND}-{key}"
        self.version = 0
        self.life = Life(self.RULES)
        self.pending: list[tuple[int, Event]] = []

    @classmethod
    def event_types(cls) -> frozenset[type[Event]]:
        """Its own events, those without an applier too."""
        return frozenset(m for m in _members(cls) if isinstance(m, type) and issubclass(m, Event))

    @property
    def correlation_id(self) -> str:
        """The job that this aggregate's events belong to; empty for none."""
        return ""

    def trigger(self, *events: Event) -> None:
        """Applies decided events and keeps them for saving: all, or none. Raises OutOfOrder."""
        try:
            self.life.check(*events)
        except OutOfOrder as error:
            raise OutOfOrder(f"{self.KIND} {self.key}: {error}") from None
        for event in events:
            self.apply(event)
            self.pending.append((self.version, event))

    def apply(self, event: Event) -> None:
        """Moves the state on by one event that has happened. An event without an applier only counts. What an older
        version recorded out of order is taken as well: the log is the truth."""
        self.life.move(kind_of(event), event)
        applier = self._appliers.get(type(event))
        if applier is not None:
            applier(self, event)
        self.version += 1

    def collect_pending(self) -> list[tuple[int, Event]]:
        """(version, event) in order, once."""
        pending, self.pending = self.pending, []
        return pending

    @classmethod
    def project(cls, aggregate: Self | None, recorded: Iterable[Recorded]) -> Self | None:
        """eventsourcing's projector function; None when there are no events. They may begin with one that tells all."""
        for one in recorded:
            if aggregate is None:
                aggregate = cls(one.originator_id.removeprefix(f"{cls.KIND}-"))
                aggregate.version = one.originator_version - 1
            aggregate.apply(one.event)
        return aggregate


def _members(cls: type) -> list[Any]:
    """What it and its bases define."""
    return [member for base in cls.__mro__ for member in vars(base).values()]
