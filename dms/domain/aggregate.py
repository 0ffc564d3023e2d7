"""The base of our aggregates: commands decide and may raise, `_past_participle` methods only apply.

Satisfies eventsourcing's MutableAggregateProtocol, so the library's Repository rebuilds it from
its EventStore. The library's own `@event` decorator is not used: it costs 9 µs an event, as
much as a whole command may cost here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self, TypeVar

from dms.domain.event import Event, Recorded

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
    _appliers: ClassVar[dict[type[Event], Apply]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        methods = [m for m in vars(cls).values() if hasattr(m, "event_type")]
        cls._appliers = {method.event_type: method for method in methods}

    def __init__(self, key: str) -> None:
        self.key = key
        self.id = f"{self.KIND}-{key}"
        self.version = 0
        self.pending: list[tuple[int, Event]] = []

    @classmethod
    def event_types(cls) -> frozenset[type[Event]]:
        """Its own events, those without an applier too."""
        return frozenset(e for e in vars(cls).values() if isinstance(e, type) and issubclass(e, Event))

    @property
    def correlation_id(self) -> str:
        """The job that this aggregate's events belong to; empty for none."""
        return ""

    def trigger(self, event: Event) -> None:
        """Applies a decided event and keeps it for saving."""
        self.apply(event)
        self.pending.append((self.version, event))

    def apply(self, event: Event) -> None:
        """Moves the state on by one event. An event without an applier only counts."""
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
        """eventsourcing's projector function; None when there are no events."""
        for one in recorded:
            if aggregate is None:
                aggregate = cls(one.originator_id.removeprefix(f"{cls.KIND}-"))
            aggregate.apply(one.event)
        return aggregate
