"""What may follow what in an aggregate's life: a table of states and event types that every event passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from dms.domain.event import EVENT_TYPES, Event, Unknown
from dms.errors import OutOfOrder

S = TypeVar("S")
Next = Mapping[type[Event], S | Callable[[Any], S]]
"""The state after each event that may come; a function where the event's content decides, whose docstring says how."""


class Rules(Generic[S]):
    """start: the state before the first event. table: the states, with what may come in each; what is not there can't
    happen. rules_out: what an event makes impossible from then on, in whatever state; itself, when it comes once.
    renews: what an event makes possible again that was ruled out."""

    def __init__(
        self,
        start: S,
        table: Mapping[S, Next[S]],
        rules_out: Mapping[type[Event], frozenset[type[Event]]],
        renews: Mapping[type[Event], frozenset[type[Event]]] | None = None,
    ) -> None:
        self.start, self.table, self.rules_out, self.renews = start, table, rules_out, renews or {}
        self.landing = _landing(table)
        """Where an event leads that came out of order: older versions recorded some."""


class Life(Generic[S]):
    """Where one aggregate stands."""

    __slots__ = ("_ruled_out", "rules", "state")

    def __init__(self, rules: Rules[S]) -> None:
        self.rules, self.state = rules, rules.start
        self._ruled_out: frozenset[type[Event]] = frozenset()

    def check(self, *events: Event) -> None:
        """Whether they may follow, one after the other. Raises OutOfOrder."""
        if self.rules is ANYTHING:
            return
        ahead = Life(self.rules)
        ahead.state, ahead._ruled_out = self.state, self._ruled_out
        for event in events:
            kind = kind_of(event)
            if kind is not Unknown and (kind in ahead._ruled_out or kind not in ahead.rules.table[ahead.state]):
                raise OutOfOrder(f"{kind.TOPIC} can't follow while it is {ahead.state}{ahead._after(kind)}")
            ahead.move(kind, event)

    def move(self, kind: type[Event], event: Event | None = None) -> None:
        """Goes on with what has happened, in order or not. event: needed where its content decides."""
        if self.rules is ANYTHING:
            return
        found = self.rules.table[self.state].get(kind)
        if found is None:
            found = self.rules.landing.get(kind, self.state)
        self.state = found(event) if callable(found) else found
        ruled_out = self.rules.rules_out.get(kind)
        if ruled_out is not None:
            self._ruled_out |= ruled_out
        if kind in self.rules.renews:
            self._ruled_out -= self.rules.renews[kind]

    def _after(self, kind: type[Event]) -> str:
        return ", after what came before" if kind in self._ruled_out else ""


def kind_of(event: Event) -> type[Event]:
    """Its type; of an event that a newer version wrote, the type that this version has for its topic, or Unknown."""
    return EVENT_TYPES.get(event.topic, Unknown) if isinstance(event, Unknown) else type(event)


def once(*kinds: type[Event]) -> dict[type[Event], frozenset[type[Event]]]:
    """Rules that each comes once."""
    return {kind: frozenset((kind,)) for kind in kinds}


def _landing(table: Mapping[S, Next[S]]) -> dict[type[Event], S | Callable[[Any], S]]:
    """Of the events that lead to one state, from wherever they may come."""
    found: dict[type[Event], list[S | Callable[[Any], S]]] = {}
    for state, following in table.items():
        for kind, after in following.items():
            if after != state and after not in found.setdefault(kind, []):
                found[kind].append(after)
    return {kind: states[0] for kind, states in found.items() if len(states) == 1}


ANYTHING: Rules[Any] = Rules(None, {}, {})
"""Of what has no order: each event may come at any time."""
