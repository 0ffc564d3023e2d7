"""Errors of msgspec in plain words, and the place of each as a JSON pointer."""

from __future__ import annotations

import re

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_TYPES = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?(.*)", re.DOTALL)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_BOUNDS = (
    (re.compile(r"^ of length >= (\d+)$"), "with at least {} {unit}"),
    (re.compile(r"^ of length <= (\d+)$"), "with at most {} {unit}"),
    (re.compile(r"^ >= (\S+)$"), "of at least {}"),
    (re.compile(r"^ <= (\S+)$"), "of at most {}"),
)
_PATTERNS = {
    "^([0-9a-f]{64})?$": "64 hexadecimal digits in lower case",
    "^[0-9a-f]{64}$": "64 hexadecimal digits in lower case",
}
_PATTERN = re.compile(r"^ matching regex '(.*)'$")
_UNITS = {"str": "characters", "array": "items", "object": "keys"}


def located(text: str) -> tuple[str, str]:
    """(pointer, what is wrong) of msgspec's "... - at `$.a[0]`"."""
    what, _, where = text.partition(" - at `$")
    pointer = "".join("/" + (name or index) for name, index in _STEP.findall(where.rstrip("`")))
    missing = re.search(r"missing required field `([^`]+)`", what)
    return (f"{pointer}/{missing[1]}", "is required") if missing else (pointer, _plain(what))


def escaped(key: str) -> str:
    """A key as a step of a JSON pointer. Source: RFC 6901."""
    return key[:64].replace("~", "~0").replace("/", "~1")


def _plain(text: str) -> str:
    """What has no plain words here stays as it is."""
    found = _TYPES.fullmatch(text)
    if found is None:
        return text
    expected, got, rest = found.groups()
    kinds = [kind for kind in expected.split(" | ") if kind != "null"]
    words = " or ".join(_WORDS.get(kind, kind) for kind in kinds)
    if got:
        return f"{words} is expected, not {_WORDS.get(got, got)}"
    if (shape := _PATTERN.fullmatch(rest)) is not None and shape[1] in _PATTERNS:
        return f"{_PATTERNS[shape[1]]} are expected"
    for pattern, bound in _BOUNDS:
        if (number := pattern.fullmatch(rest)) is not None:
            return f"{words} {bound.format(number[1], unit=_UNITS.get(kinds[0], 'items'))} is expected"
    return text
