"""Every projection, over any sequence of any events: a pure fold that may be stopped, stored and gone on with."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect as ms

import dms.bootstrap  # noqa: F401  # all events are registered once every module is imported
import projections
from dms.domain.event import EVENT_TYPES, UNREAD, Event, Fact, Recorded, Unknown, encode, new_id_bytes
from projections.base import Folds, Projection

STREAMS = ("job-a", "job-b", "deployment-a", "deployment-b", "device-12D3KooWOwn", "provider-12D3KooWX", "payment-1")


def every_projection() -> list[type[Projection[Any]]]:
    for module in pkgutil.iter_modules(projections.__path__, "projections."):
        importlib.import_module(module.name)

    def below(cls: type[Projection[Any]]) -> list[type[Projection[Any]]]:
        return [found for sub in cls.__subclasses__() for found in (sub, *below(sub))]

    return sorted({cls for cls in below(Projection) if cls.__module__.startswith("projections.")}, key=lambda c: c.name)


def values(kind: ms.Type) -> st.SearchStrategy[Any]:
    """Values of a type as msgspec describes it."""
    match kind:
        case ms.Metadata(type=inner):
            return values(inner)
        case ms.StructType(cls=cls, fields=fields):
            return st.fixed_dictionaries({field.name: values(field.type) for field in fields}).map(
                lambda given: cls(**given)
            )
        case ms.UnionType(types=types):
            return st.one_of(*map(values, types))
        case ms.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=3).map(tuple)
        case ms.TupleType(item_types=items):
            return st.tuples(*map(values, items))
        case ms.ListType(item_type=item):
            return st.lists(values(item), max_size=3)
        case ms.DictType(key_type=key, value_type=value):
            return st.dictionaries(values(key), values(value), max_size=3)
        case ms.EnumType(cls=enum):
            return st.sampled_from(list(enum))
        case ms.LiteralType(values=choices):
            return st.sampled_from(list(choices))
        case ms.IntType(ge=least, le=most):
            return st.integers(least if least is not None else 0, most if most is not None else 2**40)
        case ms.FloatType():
            return st.floats(0, 1e9)
        case ms.StrType():
            return st.sampled_from(["", "0", "1.5", "success", "pending", "fund", "a", "x" * 50])
        case ms.BoolType():
            return st.booleans()
        case ms.NoneType():
            return st.none()
        case ms.AnyType():
            return st.just(None)
    raise NotImplementedError(f"how are values of {kind} made?")


BEGINNINGS = {"job-a": "job.service_requested", "deployment-b": "deployment.requested", STREAMS[4]: "device.onboarded"}


@cache
def histories() -> st.SearchStrategy[list[tuple[str, Event]]]:
    """Often with beginnings that make sense, since most folds ignore what never began."""
    begun = [st.tuples(st.just(s), values(ms.type_info(EVENT_TYPES[topic]))) for s, topic in BEGINNINGS.items()]
    beginning = st.lists(st.one_of(begun), max_size=3)
    rest = st.lists(st.tuples(st.sampled_from(STREAMS), an_event()), max_size=10)
    return st.tuples(beginning, rest).map(lambda both: both[0] + both[1])


def an_event() -> st.SearchStrategy[Event]:
    known = [values(ms.type_info(cls)) for cls in EVENT_TYPES.values()]
    return st.one_of(*known, st.just(Unknown(topic="job.invented_later", version=9, body={"reason": [1]})))


def recorded(events: Sequence[tuple[str, Event]]) -> list[Recorded]:
    return [
        Recorded(
            position, stream, position, event.TOPIC, event.VERSION, 1_760_000_000_000_000 + position, new_id_bytes(),
            b"", b"", "", encode(event), bytes(32), event,
        )
        for position, (stream, event) in enumerate(events, 1)
    ]  # fmt: skip


def fold(projection: Projection[Any], rows: dict[str, Any], events: Sequence[Recorded]) -> dict[str, Any]:
    found = dict(rows)
    for event in events:
        key = projection.key(event)
        if key is not None:
            found[key] = projection.apply(found.get(key), event)
            if found[key] is None:
                del found[key]
    return found


def stored(projection: Projection[Any], rows: dict[str, Any]) -> dict[str, Any]:
    """As they come back from the database."""
    return {key: msgspec.json.decode(msgspec.json.encode(row), type=projection.row_type) for key, row in rows.items()}


def test_the_projections_are_found() -> None:
    assert {"jobs", "capacity"} <= {cls.name for cls in every_projection()}


@pytest.mark.parametrize("cls", every_projection(), ids=lambda cls: str(cls.name))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_prefix_and_then_the_rest_is_the_whole(cls: type[Projection[Any]], data: st.DataObject) -> None:
    """Also when the rows were stored between, and nothing that was folded is changed by what follows."""
    projection = cls()
    events = recorded(data.draw(histories()))
    whole = fold(projection, {}, events)
    cut = data.draw(st.integers(0, len(events)))
    prefix = fold(projection, {}, events[:cut])
    before = msgspec.json.encode(prefix)
    assert fold(cls(), stored(projection, prefix), events[cut:]) == stored(projection, whole)
    assert msgspec.json.encode(prefix) == before
    for row in whole.values():
        assert len(projection.column_values(row)) == len(projection.columns)


def as_bulk_read(projection: Projection[Any], events: Sequence[Recorded]) -> list[Fact]:
    """Without the bodies that the projection says it does not look into."""
    return [
        Fact(
            one.position, one.kind, one.key, one.topic, one.time, one.event_type,
            one.event if projection.reads(one.event_type) else UNREAD,
        )
        for one in events
    ]  # fmt: skip


@pytest.mark.parametrize("cls", every_projection(), ids=lambda cls: str(cls.name))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_bulk_read_gives_the_rows_that_whole_envelopes_give(cls: type[Projection[Any]], data: st.DataObject) -> None:
    """What a projection says of the events it uses, and of those it looks into, is true."""
    projection = cls()
    events = recorded(data.draw(histories()))
    rows: dict[str, Any] = {}
    Folds([(projection, rows)]).take(as_bulk_read(projection, events))
    assert rows == fold(projection, {}, events)


@pytest.mark.slow
@pytest.mark.parametrize("cls", every_projection(), ids=lambda cls: str(cls.name))
def test_every_event_alone_can_be_folded(cls: type[Projection[Any]]) -> None:
    """A log may begin in the middle: its older part was archived."""

    @settings(max_examples=3, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        for kind in EVENT_TYPES.values():
            event = data.draw(values(ms.type_info(kind)))
            stream = next((name for name in STREAMS if name.startswith(kind.TOPIC.partition(".")[0])), STREAMS[0])
            fold(cls(), {}, recorded([(stream, event)]))

    each()
