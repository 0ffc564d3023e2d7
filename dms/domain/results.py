"""What of a job's workspace are its results: what comes back to whoever asked for it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec import Struct

RESULTS_FOLDER = "results"  # of the workspace: where a job leaves them, unless its request says otherwise
MOST_PATTERNS = 64
MOST_PATTERN_CHARACTERS = 512
_MOST_PARTS = 32
_ANY_DEPTH = "**"

Parts = tuple[str, ...]
"""Of a path below the workspace."""


class Selection(Struct, frozen=True, kw_only=True):
    """patterns: what to take; none: the folder `results` if it holds a file, else all. inputs: paths that were there
    before the job, which are taken only where a pattern names them."""

    patterns: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


EVERYTHING = Selection(patterns=(_ANY_DEPTH,))


def problem_of_pattern(pattern: str) -> str:
    """What is wrong with it; empty for nothing."""
    if not pattern or len(pattern) > MOST_PATTERN_CHARACTERS:
        return f"a pattern has 1 to {MOST_PATTERN_CHARACTERS} characters"
    if pattern.startswith("/"):
        return f"{pattern!r} is absolute; name it as it lies below /workspace, such as 'results/*.bin'"
    parts = pattern.split("/")
    if ".." in parts or "\0" in pattern:
        return f"{pattern!r} leads out of /workspace"
    return f"{pattern!r} is deeper than {_MOST_PARTS} folders" if len(parts) > _MOST_PARTS else ""


def chosen(selection: Selection, files: Iterable[Parts]) -> Callable[[Parts], bool] | None:
    """Which of these files are taken; None for all of them, folders included."""
    if selection.patterns:
        if _ANY_DEPTH in selection.patterns:
            return None
        patterns = [_parts(pattern) for pattern in selection.patterns]
        return lambda path: any(_names(pattern, path) for pattern in patterns)
    if any(path[0] == RESULTS_FOLDER and len(path) > 1 for path in files):
        return lambda path: path[0] == RESULTS_FOLDER
    if not selection.inputs:
        return None
    inputs = {_parts(path) for path in selection.inputs}
    return lambda path: not any(path[:depth] in inputs for depth in range(1, len(path) + 1))


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _names(pattern: Parts, path: Parts) -> bool:
    """Whether it names the file, or a folder that the file is in. `**` stands for any number of folders."""
    reached = {0}  # how many parts of the pattern may be used up so far
    for part in path:
        reached = _skipped(pattern, reached)
        if len(pattern) in reached:
            return True
        reached = {at if pattern[at] == _ANY_DEPTH else at + 1 for at in reached if _fits(pattern[at], part)}
    return len(pattern) in _skipped(pattern, reached)


def _skipped(pattern: Parts, reached: set[int]) -> set[int]:
    """With those behind a `**` that stands for no folder."""
    found = set(reached)
    for begin in reached:
        behind = begin
        while behind < len(pattern) and pattern[behind] == _ANY_DEPTH:
            behind += 1
            found.add(behind)
    return found


def _fits(wanted: str, part: str) -> bool:
    return wanted == _ANY_DEPTH or _compiled(wanted).match(part) is not None


@lru_cache(maxsize=4096)
def _compiled(wanted: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(wanted))
