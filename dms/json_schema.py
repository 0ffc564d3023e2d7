"""JSON Schemas as they are shown, the same by every version of Python: from 3.13 on it takes the indentation out of
docstrings itself. And with the end of a text as JSON Schema writes it: in a pattern of Python's, `$` also fits before a
line break, so that ours end with what no other language knows."""

from __future__ import annotations

from typing import Any

DESCRIPTION = "description"
END = r"\Z"  # of a text, in a pattern of Python's


def as_shown(schema: Any) -> Any:
    """A copy with each description, of the whole and of its parts, in one line, and each pattern as others read it."""
    if isinstance(schema, list):
        return [as_shown(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _SHOWN[key](part) if key in _SHOWN and isinstance(part, str) else as_shown(part)
        for key, part in schema.items()
    }


def shown_pattern(pattern: str) -> str:
    """Also of one that is told in a message, as `repr` writes it."""
    return pattern.replace("\\" + END, "$").replace(END, "$")


_SHOWN = {DESCRIPTION: lambda text: " ".join(text.split()), "pattern": shown_pattern}
