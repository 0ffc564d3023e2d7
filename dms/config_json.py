"""JSON with `//` and `/* */` comments that remembers where each value stands, so that an error can point at it."""

from __future__ import annotations

import json
import re
from typing import NamedTuple, NoReturn

from dms.masking import masked_line

MAX_DEPTH = 50  # deeper than any settings; keeps a hostile file from exhausting the stack
_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)


class Fault(Exception):
    """What is wrong, and where: the offset in characters from the start of the text."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message, self.offset = message, offset

    def report(self, text: str) -> str:
        """`LINE:COLUMN: message`, then that line with a caret under the column."""
        place = Place(None, self.offset)
        start = text.rfind("\n", 0, self.offset) + 1
        line = masked_line(text[start:].split("\n", 1)[0].replace("\t", " ").rstrip())
        column = place.column(text)
        skipped = max(0, column - 70)  # a file may be one long line
        shown, caret = line[skipped : skipped + 100], " " * (column - 1 - skipped) + "^"
        return f"{place.line(text)}:{column}: {self.message}\n    {shown}\n    {caret}"


class Place(NamedTuple):
    """A value and the offset of its first character. Members of lists and objects are Places too."""

    value: dict[str, Place] | list[Place] | str | float | bool | None
    offset: int

    def line(self, text: str) -> int:
        return text.count("\n", 0, self.offset) + 1

    def column(self, text: str) -> int:
        return self.offset - text.rfind("\n", 0, self.offset)

    def plain(self) -> object:
        """The value as json.loads would give it."""
        if isinstance(self.value, dict):
            return {key: member.plain() for key, member in self.value.items()}
        if isinstance(self.value, list):
            return [member.plain() for member in self.value]
        return self.value


def parse(text: str) -> Place:
    """Raises Fault. Of two equal keys in one object the second is a fault: it is never what was meant."""
    place, end = _value(text, _skip(text, 0), 0)
    end = _skip(text, end)
    if end < len(text):
        raise Fault("expected nothing more behind the closing bracket", end)
    return place


def _skip(text: str, offset: int) -> int:
    match = _BLANK.match(text, offset)
    end = match.end() if match else offset
    if text.startswith("/*", end):
        raise Fault("this comment is never closed: */ is missing", end)
    return end


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON has")


_SURROGATE = re.compile("[\ud800-\udfff]")
_SCALAR = json.JSONDecoder(parse_constant=_refuse_constant)


def _value(text: str, offset: int, depth: int) -> tuple[Place, int]:
    if depth > MAX_DEPTH:
        raise Fault("this is nested too deeply", offset)
    match text[offset : offset + 1]:
        case "":
            raise Fault("the file ends where a value was expected", len(text))
        case "{":
            return _members(text, offset, depth)
        case "[":
            return _items(text, offset, depth)
    try:
        value, end = _SCALAR.raw_decode(text, offset)
    except json.JSONDecodeError as error:
        at = offset if error.msg == "Expecting value" else error.pos
        meaning = {"Expecting value": "expected a value: text in double quotes, a number, true, false, [ or {"}
        raise Fault(meaning.get(error.msg, error.msg[:1].lower() + error.msg[1:]), at) from error
    except ValueError as error:
        raise Fault(str(error), offset) from error
    if isinstance(value, str) and _SURROGATE.search(value):
        raise Fault("half of a character (U+D800 to U+DFFF) has no place in a text", offset)
    return Place(value, offset), end


def _items(text: str, offset: int, depth: int) -> tuple[Place, int]:
    items: list[Place] = []
    at = _skip(text, offset + 1)
    while text[at : at + 1] != "]":
        item, at = _value(text, at, depth + 1)
        items.append(item)
        at = _next(text, at, "]")
    return Place(items, offset), at + 1


def _members(text: str, offset: int, depth: int) -> tuple[Place, int]:
    members: dict[str, Place] = {}
    seen: set[str] = set()
    at = _skip(text, offset + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 1] != '"':
            raise Fault("expected a key in double quotes" + _ended(text, at, "}"), at)
        key, after = _value(text, at, depth + 1)
        name = str(key.value)
        if name.lower() in seen:
            raise Fault(f"the key {name} is here twice", at)
        seen.add(name.lower())
        after = _skip(text, after)
        if text[after : after + 1] != ":":
            raise Fault(f"expected a colon after the key {name}", after)
        members[name], at = _value(text, _skip(text, after + 1), depth + 1)
        at = _next(text, at, "}")
    return Place(members, offset), at + 1


def _next(text: str, offset: int, closing: str) -> int:
    """From the end of a member to the next one or to the closing bracket."""
    at = _skip(text, offset)
    if text[at : at + 1] == closing:
        return at
    if text[at : at + 1] != ",":
        raise Fault(f"expected a comma or {closing}" + _ended(text, at, closing), at)
    after = _skip(text, at + 1)
    if text[after : after + 1] == closing:
        raise Fault(f"this comma is one too many: {closing} follows it", at)
    return after


def _ended(text: str, offset: int, closing: str) -> str:
    return f", but the file ends here: is a {closing} missing?" if offset >= len(text) else ""
