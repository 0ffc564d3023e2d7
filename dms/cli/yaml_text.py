"""YAML of a job's description: plain data only, by YAML 1.2's core schema, with the place of what is wrong.

PyYAML's own resolvers are those of YAML 1.1, by which `no` is false and `12:30` is 750. Anchors and aliases are
refused: a few lines of them grow to gigabytes.
"""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar

import yaml

DEEPEST = 32
LONGEST_NUMBER = 40  # digits


class YamlFault(Exception):
    """The message begins with LINE:COLUMN."""


def parse(text: str) -> Any:
    """Objects, lists, texts, numbers, booleans and None, as json.loads gives them. Raises YamlFault."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        before, wrong = text[: error.position], text[error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise YamlFault(f"{line}:{column}: the character U+{ord(wrong):04X} has no place in YAML") from error
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise YamlFault(f"{place}: {error.problem or error.context}") from error
    except (ValueError, OverflowError) as error:  # PyYAML takes any number for a character's, and for a version's
        raise YamlFault(f"{loader.line + 1}:{loader.column + 1}: a number is out of range") from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as PyYAML declares it
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not allowed here", event.start_mark)
        if self._levels > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {DEEPEST}", event.start_mark)
        self._levels += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._levels -= 1
        return node


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
        key = _text(loader, key_node)
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key} is here twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(item, deep=True) for item in node.value]


def _number(_loader: _Loader, node: yaml.ScalarNode) -> int | float:
    text = node.value
    try:
        number = float(text) if node.tag.endswith("float") else int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
        if len(text) <= LONGEST_NUMBER and math.isfinite(number):
            return number
    except (ValueError, OverflowError):
        pass  # told with its place, below
    raise yaml.constructor.ConstructorError(None, None, "this is not a number that JSON has", node.start_mark)


def _unknown(_loader: _Loader, node: yaml.Node) -> None:
    problem = f"the tag {node.tag} is not allowed here"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _text(_loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(node.value)
    if _SURROGATE.search(text):
        problem = "half of a character (U+D800 to U+DFFF) has no place in a text"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return text


_SURROGATE = re.compile("[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+0123456789.")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)
for _name, _construct in (
    ("null", lambda _loader, _node: None),
    ("bool", lambda _loader, node: node.value.casefold() == "true"),
    ("int", _number),
    ("float", _number),
    ("str", _text),
    ("seq", _sequence),
    ("map", _mapping),
):
    _Loader.add_constructor(_TAG + _name, _construct)
_Loader.add_constructor(None, _unknown)
