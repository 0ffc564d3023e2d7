"""JSON from the network, read strictly: what another parser might take differently is refused here.

Refused: anything but UTF-8, a byte order mark, NaN and infinities, lone surrogates; and where it would be
read, duplicate keys, NUL, numbers beyond 64 bits, nesting over 32. Keys are matched without regard to case at
every depth, null counts as absent, and unknown keys are ignored, as in the original (Go's encoding/json). Keys of maps
are the caller's own words (names of environment variables), and stay as they are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec

from dms.errors import InvalidInput
from dms.plain_words import escaped, located

T = TypeVar("T")

DEEPEST = 32
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")
_TOO_DEEP = f"nested deeper than {DEEPEST}"
_INTEGERS = range(-(2**63), 2**64)


class _Refused:
    """Stands in the parsed tree for a value that has no place in it. json: whether it is JSON at all."""

    def __init__(self, why: str, *, json: bool = True) -> None:
        self.why, self.json = why, json


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, duplicates included."""


Findings = list[tuple[str, str]]
"""(JSON pointer, what is wrong there), in the order found."""


def parse(body: bytes, message_type: type[T]) -> T:
    """The body as that type; unknown keys are ignored, whatever they hold. Raises InvalidInput with JSON pointers."""
    tree, findings = tree_of(body, message_type)
    try:
        value = msgspec.convert(tree, message_type)
    except msgspec.ValidationError as error:
        raise invalid(*explained(error, findings, tree=tree)) from error
    check_whole(value, findings)
    return value


def tree_of(body: bytes, message_type: type[Any]) -> tuple[Any, Findings]:
    """Dicts with folded keys, lists and scalars, to be converted to that type; what has no place in it can't be, and
    stands in the findings. Raises InvalidInput for what is not JSON."""
    return _read(body, _maps(cast("Hashable", message_type)))


def check_whole(value: Any, findings: Findings) -> None:
    """Raises InvalidInput where one of the findings came through, since the type takes anything there."""
    if findings and _holds_refused(value):
        raise invalid(*findings[0])


def convert(value: Any, message_type: type[T]) -> T:
    """Of a value that `load` gave."""
    try:
        return msgspec.convert(value, message_type)
    except msgspec.ValidationError as error:
        raise invalid(*located(str(error))) from error


def load(body: bytes) -> Any:
    """Dicts with folded keys, lists and scalars. Raises InvalidInput for anything in it."""
    tree, findings = _read(body)
    if findings:
        raise invalid(*findings[0])
    return tree


@cache
def _maps(message_type: Any) -> frozenset[str]:
    """Pointers of the maps in it."""
    return frozenset(_maps_below(message_type, ""))


def _maps_below(kind: Any, pointer: str) -> Iterator[str]:
    if get_origin(kind) is dict or kind is dict:
        yield pointer
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield from _maps_below(field.type, f"{pointer}/{field.encode_name}")
    else:
        for part in get_args(kind):
            yield from _maps_below(part, pointer)


def _read(body: bytes, maps: frozenset[str] = frozenset()) -> tuple[Any, Findings]:
    """The tree, with _Refused in the places that were found wanting. maps: pointers of objects whose keys are kept."""
    if not body.strip():
        raise InvalidInput("request body is empty", [("", "a JSON object is expected")])
    try:
        tree = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_Pairs,
            parse_constant=lambda name: _Refused(f"{name} is not JSON", json=False),
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        raise invalid("", f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise invalid("", f"{error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise invalid("", _TOO_DEEP) from error
    reading = _Reading(maps)
    return reading.checked(tree, "", 0), reading.findings


def _holds_refused(value: Any) -> bool:
    """Where a type takes anything, a refused value comes through."""
    try:
        msgspec.to_builtins(value)
    except TypeError:
        return True
    return False


def _integer(text: str) -> int | _Refused:
    if len(text) > 20 or (number := int(text)) not in _INTEGERS:
        return _Refused("the number does not fit in 64 bits")
    return number


def _float(text: str) -> float | int | _Refused:
    """1.0 is a whole number too, as in JSON Schema."""
    number = float(text)
    if not math.isfinite(number):
        return _Refused("the number is out of range")
    return int(number) if number.is_integer() and int(number) in _INTEGERS else number


class _Reading:
    """One body's way from pairs to dicts."""

    def __init__(self, maps: frozenset[str]) -> None:
        self._maps = maps
        self.findings: Findings = []

    def checked(self, value: Any, pointer: str, depth: int) -> Any:
        if depth > DEEPEST:
            return self._refuse(pointer[:128], _TOO_DEEP)
        if isinstance(value, _Pairs):
            return self._object(value, pointer, depth)
        if isinstance(value, list):
            return [self.checked(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(value)]
        if isinstance(value, _Refused):
            if not value.json:
                raise invalid(pointer, value.why)
            return self._refuse(pointer, value.why)
        if isinstance(value, str) and (why := _bad_text(value, pointer)):
            return self._refuse(pointer, why)
        return value

    def _object(self, pairs: _Pairs, pointer: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: set[str] = set()
        own = pointer in self._maps
        twice = "the key is there twice" + ("" if own else " (upper and lower case count as one)")
        for key, item in pairs:
            if why := _bad_text(key, pointer):
                self._refuse(pointer, why)
                continue  # no key of ours
            name = key if own else key.casefold()
            where = f"{pointer}/{escaped(name)}"
            if name in seen:
                found[name] = self._refuse(where, twice)
                continue
            seen.add(name)
            value = self.checked(item, where, depth + 1)
            if value is not None:
                found[name] = value
        return found

    def _refuse(self, pointer: str, why: str) -> _Refused:
        self.findings.append((pointer, why))
        return _Refused(why)


def _bad_text(text: str, pointer: str) -> str:
    """What is wrong with it; empty when nothing is. Raises InvalidInput for what UTF-8 can't hold."""
    bad = _BAD_TEXT.search(text)
    if bad is None:
        return ""
    why = f"text must not hold U+{ord(bad[0]):04X}"
    if bad[0] != "\x00":
        raise invalid(pointer, why)
    return why


def explained(error: msgspec.ValidationError, findings: Findings, at: str = "", tree: object = None) -> tuple[str, str]:
    """(pointer, what is wrong). at: where the value stands that could not be converted, tree: that value. Better words,
    where it is one of the findings. msgspec names no key of a map, only that it is in there."""
    pointer, what = located(str(error))
    pointer = at + pointer
    above, unnamed, _ = pointer.partition("/...")
    for place, why in findings:
        if place == pointer or (unnamed and place.startswith(f"{above}/")):
            return place, why
    return above + (_key_of_no_text(tree, above.removeprefix(at)) if unnamed else ""), what


def _key_of_no_text(tree: object, pointer: str) -> str:
    """The step to the first value that is no text in the map there; our maps have texts. Empty when there is none."""
    for step in pointer.split("/")[1:]:
        if not isinstance(tree, dict):
            return ""
        tree = tree.get(step)
    if not isinstance(tree, dict):
        return ""
    return next((f"/{escaped(key)}" for key, value in tree.items() if not isinstance(value, str)), "")


def invalid(pointer: str, what: str) -> InvalidInput:
    place = f" at {pointer}" if pointer else ""
    return InvalidInput(f"invalid request data{place}: {what}", [(pointer, what)])
