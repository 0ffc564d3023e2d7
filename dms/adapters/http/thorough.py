"""A body read to its end: all that is wrong with it at once, and each key that nobody reads."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Struct

from dms.adapters.http.strict_json import Findings, check_whole, explained, invalid, tree_of
from dms.plain_words import escaped

T = TypeVar("T")

MOST_PROBLEMS = 64  # told of one body
_ALIKE = 0.6  # of 1: how much a key must have in common with one that is meant
_ABSENT: Any = object()


class Thorough(NamedTuple, Generic[T]):
    """value: what could be read; where that is wrong, something that is not. problems: what is wrong. unknown: keys
    that nobody reads, and what may have been meant. Both: (JSON pointer, text), in the order of the type's fields."""

    value: T
    problems: Findings
    unknown: Findings


def read_thoroughly(body: bytes, message_type: type[T], stand_in: Mapping[str, Any]) -> Thorough[T]:
    """stand_in: an example of it, as JSON values, which takes the place of what can't be read, so that the rest can be
    looked at all the same. Raises InvalidInput for what is not JSON, or no object."""
    tree, findings = tree_of(body, message_type)
    if not isinstance(tree, dict):
        raise invalid("", "an object is expected")
    looking = _Looking(message_type, findings)
    mended = looking.mended(tree, message_type, "", stand_in)
    value = msgspec.convert(mended, message_type)
    check_whole(value, findings)
    return Thorough(value, looking.problems[:MOST_PROBLEMS], looking.unknown[:MOST_PROBLEMS])


class _Looking:
    def __init__(self, root: type[Any], findings: Findings) -> None:
        self._root, self._findings = root, findings
        self.problems: Findings = []
        self.unknown: Findings = []

    def mended(self, value: Any, kind: Any, at: str, stand_in: Any) -> Any:
        """The value, without what is wrong in it."""
        struct = _struct_in(kind)
        if struct is not None and isinstance(value, dict):
            return self._object(value, struct, at, stand_in if isinstance(stand_in, Mapping) else {})
        item = _item_of(kind)
        if item is not None and isinstance(value, list):
            found = (self.mended(one, item, f"{at}/{number}", _ABSENT) for number, one in enumerate(value))
            value = [one for one in found if one is not _ABSENT]
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            self.problems.append(explained(error, self._findings, at, value))
            return stand_in
        return value

    def _object(self, value: dict[str, Any], struct: type[Struct], at: str, stand_in: Mapping[str, Any]) -> Any:
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        found: dict[str, Any] = {}
        for name, field in fields.items():
            other = stand_in.get(name, _ABSENT)
            if name in value:
                found[name] = self.mended(value[name], field.type, f"{at}/{name}", other)
            elif field.required:
                self.problems.append((f"{at}/{name}", "is required"))
                found[name] = other
        for key in value.keys() - fields.keys():
            self.unknown.append((f"{at}/{escaped(key)}", _meant(key, tuple(fields), self._root)))
        if any(found.get(name) is _ABSENT for name, field in fields.items() if field.required):
            return _ABSENT  # of a list: the problem is told
        return {name: one for name, one in found.items() if one is not _ABSENT}


def _meant(key: str, here: tuple[str, ...], root: type[Any]) -> str:
    """What to say of a key that nobody reads."""
    if near := get_close_matches(key, here, 1, _ALIKE):
        return f"unknown key; did you mean {near[0]}?"
    everywhere = _paths(cast("Hashable", root))
    by_name = {path.rpartition(".")[2]: path for path in reversed(everywhere)}
    if key in by_name:
        return f"unknown key here; it belongs at {by_name[key]}"
    if near := get_close_matches(key, by_name, 1, _ALIKE):
        return f"unknown key; did you mean {by_name[near[0]]}?"
    return f"unknown key; known here are {', '.join(here)}"


@cache
def _paths(root: Any) -> tuple[str, ...]:
    """Of all keys of a type: params.image_id."""
    return tuple(_paths_below(root, ""))


def _paths_below(kind: Any, lead: str) -> Iterator[str]:
    struct = _struct_in(kind) or _struct_in(_item_of(kind))
    if struct is None:
        return
    fields = msgspec.structs.fields(struct)
    yield from (f"{lead}{field.encode_name}" for field in fields)
    for field in fields:
        yield from _paths_below(field.type, f"{lead}{field.encode_name}.")


def _parts(kind: Any) -> tuple[Any, ...]:
    """Of a union, or itself; without annotations."""
    if get_origin(kind) is Annotated:
        return _parts(get_args(kind)[0])
    if get_origin(kind) in (tuple, list, dict) or not get_args(kind):
        return (kind,)
    return tuple(part for one in get_args(kind) for part in _parts(one))


def _struct_in(kind: Any) -> type[Struct] | None:
    return next((part for part in _parts(kind) if isinstance(part, type) and issubclass(part, Struct)), None)


def _item_of(kind: Any) -> Any:
    """The type of the items of a list of objects; None for anything else."""
    lists = (get_args(part) for part in _parts(kind) if get_origin(part) in (tuple, list))
    return next((args[0] for args in lists if args and _struct_in(args[0]) is not None), None)
