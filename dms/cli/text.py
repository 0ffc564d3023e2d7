"""Text from elsewhere, made fit for a terminal, and figures made fit for people."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from urllib.parse import quote

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def printable(text: str) -> str:
    """Control characters, and others that end a line or turn its direction, as escapes: what a stranger wrote must not
    drive the terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def json_text(data: object, indent: int | None = None) -> str:
    """As JSON that does not drive a terminal either: what `printable` changes is escaped as JSON has it."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def cell(text: str, longest: int = 200) -> str:
    """Text as a part of one line. longest: in characters, of which many may share one place on the terminal."""
    cut = text if len(text) <= longest else text[:longest] + "…"
    return printable(" ".join(cut.split()))


def output_line(text: str, *, terminal: bool) -> str:
    """A line of a job's output. Unchanged for a file or pipe; for a terminal only its colours are kept, and of what a
    progress bar drew over and over, the last."""
    if not terminal:
        return text
    parts = _COLOUR.split(text.rstrip("\r").rpartition("\r")[2])
    line = "".join(part if _COLOUR.fullmatch(part) else printable(part) for part in parts)
    return f"{line}\x1b[0m" if len(parts) > 1 else line


def in_path(identifier: str) -> str:
    """An id as one part of a path."""
    return quote(identifier, safe="")


def moment(value: object) -> str:
    """A time as the API sends it (RFC 3339 text, or Unix µs) in local time; empty for none. One that is none, or beyond
    the years 1 to 9999 here, is shown as it came, made printable."""
    if not value or not isinstance(value, int | float | str):
        return ""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value / 1e6, UTC)
        return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return printable(str(value))


def clock(seconds: float) -> str:
    """4:05, 1:04:05."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
