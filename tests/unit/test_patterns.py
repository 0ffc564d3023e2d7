"""What text has to fit: a pattern fits all of it. Python's `$` also fits before a line break at the end, with which an
id has two spellings, and a line of a log is two."""

from __future__ import annotations

import ast
import importlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import strategies
from msgspec import Meta

from dms.json_schema import as_shown, shown_pattern
from dms.plain_words import PATTERNS, located

ROOT = Path(__file__).parents[2]


def metas() -> Iterator[tuple[str, Meta]]:
    """(place, what it is) of each `Meta(pattern=...)` in the code."""
    for folder in ("dms", "projections"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Name(id="Meta"), keywords=given) if any(k.arg == "pattern" for k in given):
                        space: dict[str, Any] = vars(importlib.import_module(name))
                        yield f"{name}:{node.lineno}", eval(ast.unparse(node), space)


METAS = dict(metas())


@pytest.mark.parametrize("place", METAS)
def test_a_line_break_behind_it_is_refused(place: str) -> None:
    meta = METAS[place]
    assert meta.pattern is not None
    kind = Annotated[str, Meta(pattern=meta.pattern)]
    with warnings.catch_warnings(action="ignore"):
        text = strategies.from_regex(meta.pattern).map(lambda found: found[: meta.max_length]).example()
    assert msgspec.convert(text, kind) == text
    if re.search(meta.pattern, f"{text}x\ny"):  # it says only how a text begins
        assert "$" not in meta.pattern
        return
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(f"{text}\n", kind)


def test_there_are_as_many_as_the_search_should_find() -> None:
    assert len(METAS) > 30
    assert not [place for place, meta in METAS.items() if "$" in (meta.pattern or "")]


def test_others_read_patterns_as_their_languages_have_them() -> None:
    kind = Annotated[str, Meta(pattern=r"^(\Z|[0-9]{1,3}\Z)", description="a\n  b")]
    assert as_shown(msgspec.json.schema(kind)) == {
        "type": "string",
        "pattern": "^($|[0-9]{1,3}$)",
        "description": "a b",
    }
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert("x", kind)
    assert shown_pattern(str(caught.value)) == "Expected `str` matching regex '^($|[0-9]{1,3}$)'"


TYPED_BY_USERS = ("dms.adapters.http.", "dms.domain.policy:", "dms.domain.checkpoint:", "dms.domain.inputs:")


@pytest.mark.parametrize("place", [place for place in METAS if place.startswith(TYPED_BY_USERS)])
def test_who_does_not_fit_it_is_told_in_words(place: str) -> None:
    pattern = METAS[place].pattern
    assert pattern is not None
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"a": "Team A!"}, dict[str, Annotated[str, Meta(pattern=pattern)]])
    assert located(str(caught.value)) == ("/...", PATTERNS[shown_pattern(pattern)])


@pytest.mark.parametrize("place", [place for place in METAS if place.startswith("dms.config:")])
def test_each_pattern_of_a_setting_is_described(place: str) -> None:
    assert METAS[place].description or METAS[place].pattern == "^/"  # of lists, which are described as a whole
