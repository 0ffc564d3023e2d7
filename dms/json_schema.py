"""JSON Schemas as they are shown, the same by every version of Python: from 3.13 on it takes the indentation out of
docstrings itself."""

from __future__ import annotations

from typing import Any

DESCRIPTION = "description"


def in_one_line(schema: Any) -> Any:
    """A copy with each description, of the whole and of its parts, in one line."""
    if isinstance(schema, list):
        return [in_one_line(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: " ".join(part.split()) if key == DESCRIPTION and isinstance(part, str) else in_one_line(part)
        for key, part in schema.items()
    }
