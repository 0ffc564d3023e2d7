"""Errors of msgspec in plain words, for the API, settings and files alike, and the place of each as a JSON pointer."""

from __future__ import annotations

import re

from dms.json_schema import shown_pattern

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
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
PATTERNS = {
    "^([0-9a-f]{64})?$": "64 hexadecimal digits in lower case are expected",
    "^[0-9a-f]{64}$": "64 hexadecimal digits in lower case are expected",
    "^[0-9a-f]{128}$": "128 hexadecimal digits in lower case are expected",
    f"^{_UUID}$": "a UUID in lower case is expected",
    "^[a-z0-9][a-z0-9._-]{0,63}$": "a name of at most 64 of a to z, 0 to 9, '.', '_' and '-' is expected, the first of "
    "them a letter or digit",
    "^[A-Za-z0-9._:-]{1,64}$": "a name of at most 64 letters, digits, '.', '_', ':' and '-' is expected",
    r"^[0-9]{1,12}(\.[0-9]{1,18})?$": 'a decimal number as text is expected, such as "0.05"',
}
"""What is said in place of a pattern, as `shown_pattern` has it."""
_PATTERN = re.compile(r"^ matching regex '(.*)'$")
_UNITS = {"str": "characters", "array": "items", "object": "keys"}


def located(text: str) -> tuple[str, str]:
    """(pointer, what is wrong) of msgspec's "... - at `$.a[0]`"."""
    what, _, where = shown_pattern(text).partition(" - at `$")
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
    if (shape := _PATTERN.fullmatch(rest)) is not None:
        return PATTERNS.get(shape[1].replace("\\\\", "\\"), text)
    for pattern, bound in _BOUNDS:
        if (number := pattern.fullmatch(rest)) is not None:
            return f"{words} {bound.format(number[1], unit=_UNITS.get(kinds[0], 'items'))} is expected"
    return text
