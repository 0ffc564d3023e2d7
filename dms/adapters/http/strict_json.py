"""JSON from the network, read strictly: what another parser might take differently is refused here.

Refused: anything but UTF-8, a byte order mark, NaN and infinities, duplicate keys, lone surrogates,
NUL, numbers beyond 64 bits, nesting over 32. Keys are matched without regard to case at every depth,
and null counts as absent, as in the original (Go's encoding/json).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeVar

import msgspec

from dms.errors import InvalidInput

T = TypeVar("T")

DEEPEST = 32
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_INTEGERS = range(-(2**63), 2**64)


class _Refused:
    """Stands in the parsed tree for a value that has no place in it, until its pointer is known."""

    def __init__(self, why: str) -> None:
        self.why = why


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, duplicates included."""


def parse(body: bytes, message_type: type[T]) -> T:
    """The body as that type; unknown keys are ignored. Raises InvalidInput with JSON pointers."""
    return convert(load(body), message_type)


def convert(value: Any, message_type: type[T]) -> T:
    """The last step of `parse`, for a value that `load` gave."""
    try:
        return msgspec.convert(value, message_type)
    except msgspec.ValidationError as error:
        raise _invalid(*_located(str(error))) from error


def load(body: bytes) -> Any:
    """Dicts with folded keys, lists and scalars. Raises InvalidInput."""
    if not body.strip():
        raise InvalidInput("request body is empty", [("", "a JSON object is expected")])
    try:
        tree = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_Pairs,
            parse_constant=lambda name: _Refused(f"{name} is not JSON"),
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        raise _invalid("", f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _invalid("", f"{error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise _too_deep("") from error
    return _checked(tree, "", 0)


def _integer(text: str) -> int | _Refused:
    if len(text) > 20 or (number := int(text)) not in _INTEGERS:
        return _Refused("the number does not fit in 64 bits")
    return number


def _float(text: str) -> float | _Refused:
    number = float(text)
    return number if math.isfinite(number) else _Refused("the number is out of range")


def _checked(value: Any, pointer: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise _too_deep(pointer)
    if isinstance(value, _Pairs):
        return _object(value, pointer, depth)
    if isinstance(value, list):
        return [_checked(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, _Refused):
        raise _invalid(pointer, value.why)
    if isinstance(value, str):
        _check_text(value, pointer)
    return value


def _object(pairs: _Pairs, pointer: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for key, item in pairs:
        _check_text(key, pointer)
        folded = key.casefold()
        where = f"{pointer}/{escaped(folded)}"
        if folded in seen:
            raise _invalid(where, "the key is there twice (upper and lower case count as one)")
        seen.add(folded)
        value = _checked(item, where, depth + 1)
        if value is not None:
            found[folded] = value
    return found


def _check_text(text: str, pointer: str) -> None:
    bad = _BAD_TEXT.search(text)
    if bad is not None:
        raise _invalid(pointer, f"text must not hold U+{ord(bad[0]):04X}")


def escaped(key: str) -> str:
    """A key as a step of a JSON pointer. Source: RFC 6901."""
    return key[:64].replace("~", "~0").replace("/", "~1")


def _located(text: str) -> tuple[str, str]:
    """(pointer, what is wrong) of msgspec's "... - at `$.a[0]`"."""
    what, _, where = text.partition(" - at `$")
    pointer = "".join("/" + (name or index) for name, index in _STEP.findall(where.rstrip("`")))
    missing = re.search(r"missing required field `([^`]+)`", what)
    return (f"{pointer}/{missing[1]}", "is required") if missing else (pointer, what)


def _too_deep(pointer: str) -> InvalidInput:
    return _invalid(pointer[:128], f"nested deeper than {DEEPEST}")


def _invalid(pointer: str, what: str) -> InvalidInput:
    place = f" at {pointer}" if pointer else ""
    return InvalidInput(f"invalid request data{place}: {what}", [(pointer, what)])
