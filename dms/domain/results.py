"""What of a job's workspace are its results: what comes back to whoever asked for it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec import Struct

from dms.errors import ArchiveRefused

RESULTS_FOLDER = "results"  # of the workspace: where a job leaves them, unless its request says otherwise
MOST_PATTERNS = 64
MOST_PATTERN_CHARACTERS = 512
MOST_WORK = 1 << 31  # comparisons of one character with another, for one workspace: seconds
_LEAST_WORK, _LOOK_WORK = 256, 32  # of comparing two names; of seeing whether they need to be
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
    """Which of these files are taken; None for all of them, folders included. What is answered raises ArchiveRefused
    once the patterns would take too long."""
    if selection.patterns:
        return None if _ANY_DEPTH in selection.patterns else _Patterns(selection.patterns)
    if any(path[0] == RESULTS_FOLDER and len(path) > 1 for path in files):
        return lambda path: path[0] == RESULTS_FOLDER
    if not selection.inputs:
        return None
    inputs = {_parts(path) for path in selection.inputs}
    return lambda path: not any(path[:depth] in inputs for depth in range(1, len(path) + 1))


class _Patterns:
    """Names files, and folders with all that is in them. `**` stands for any number of folders.

    A position is the place of a pattern's part among the parts of all patterns, each of which has one more, its end.
    How far the patterns are used up at a folder is a set of positions (the bits of a number), and counts for all that
    is in it."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._any_depth = self._any_name = self._ends = begins = at = 0
        self._words: dict[str, int] = {}  # a part that stands for itself -> where it is
        self._wild: dict[str, int] = {}  # any other
        for pattern in patterns:
            begins |= 1 << at
            for part in _parts(pattern):
                self._put(part, 1 << at)
                at += 1
            self._ends |= 1 << at
            at += 1
        self._reached: dict[Parts, int] = {(): self._skipped(begins)}
        self._work = 0

    def __call__(self, path: Parts) -> bool:
        known = next(depth for depth in range(len(path) - 1, -1, -1) if path[:depth] in self._reached)
        reached = self._reached[path[:known]]
        for depth in range(known, len(path)):
            if reached & self._ends:
                return True
            self._reached[path[:depth]] = reached
            reached = self._step(reached, path[depth])
        return bool(reached & self._ends)

    def _put(self, part: str, position: int) -> None:
        if part == _ANY_DEPTH:
            self._any_depth |= position
        elif part == "*":
            self._any_name |= position
        elif any(sign in part for sign in "*?["):
            self._wild[part] = self._wild.get(part, 0) | position
        else:
            self._words[part] = self._words.get(part, 0) | position

    def _step(self, reached: int, name: str) -> int:
        fits = reached & (self._any_name | self._words.get(name, 0))
        self._spend(_LOOK_WORK * len(self._wild))
        for wanted, positions in self._wild.items():
            if reached & positions and self._matches(wanted, name):
                fits |= reached & positions
        return self._skipped((reached & self._any_depth) | (fits << 1))

    def _skipped(self, reached: int) -> int:
        """With those behind a `**` that stands for no folder."""
        while (found := reached | (reached & self._any_depth) << 1) != reached:
            reached = found
        return reached

    def _matches(self, wanted: str, name: str) -> bool:
        self._spend(max(_LEAST_WORK, len(wanted) * len(name)))
        return _compiled(wanted).match(name) is not None

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MOST_WORK:
            raise ArchiveRefused("the patterns of the results take too long with so many files: use fewer, or shorter")


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part not in ("", "."))


@lru_cache(maxsize=4096)
def _compiled(wanted: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(wanted))
