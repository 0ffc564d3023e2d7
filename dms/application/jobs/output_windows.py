"""Parts of a job's output: some lines behind or before a line, all or those that fit. Each look has a bound, and
says where the next one goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from dms.application.jobs.job_outputs import JobOutputs
from dms.application.ports.outputs import LogLine

LINES_A_READ = 4096
MOST_LOOKED_AT = 100_000  # lines, for one answer
MOST_CHARACTERS_LOOKED_AT = 32 * 1024 * 1024
MOST_CHARACTERS_HELD = 4 * 1024 * 1024


class Window(Struct, frozen=True, kw_only=True):
    """lines: those that fit, ascending. looked_at: how many were. edge: number of the last that was; 0: none.
    more: whether others follow beyond it."""

    lines: list[LogLine]
    looked_at: int
    edge: int
    more: bool


class _Taking:
    """What is taken, and when it is enough."""

    def __init__(self, fits: Callable[[LogLine], bool], limit: int, most_bytes: int, line_bytes: int) -> None:
        self._fits, self._limit, self._left, self._line_bytes = fits, limit, most_bytes, line_bytes
        self.lines: list[LogLine] = []
        self.looked_at = self.edge = 0
        self._characters = 0

    def take(self, line: LogLine) -> bool:
        """False: no more."""
        self.edge = line.seq
        self.looked_at += 1
        self._characters += len(line.text)
        if self._fits(line):
            self.lines.append(line)
            self._left -= min(len(line.text.encode(errors="replace")), self._line_bytes)
        return not (
            len(self.lines) >= self._limit
            or self._left <= 0
            or self.looked_at >= MOST_LOOKED_AT
            or self._characters >= MOST_CHARACTERS_LOOKED_AT
        )


async def ahead(
    outputs: JobOutputs,
    job_id: str,
    after: int,
    fits: Callable[[LogLine], bool],
    limit: int,
    *,
    most_bytes: int,
    line_bytes: int,
) -> Window:
    """Of the lines behind line `after` the first that fit. most_bytes: of text, with `line_bytes` of a line at most;
    one line comes always. Raises LogUnavailable."""
    taking = _Taking(fits, limit, most_bytes, line_bytes)
    taking.edge = after
    step = min(limit, LINES_A_READ)  # without a filter just those
    while lines := await outputs.read(job_id, taking.edge, step):
        for line in lines:
            if not taking.take(line):
                return _window(taking, more=taking.edge < await outputs.last(job_id))
        step = LINES_A_READ
        await asyncio.sleep(0)
    return _window(taking, more=False)


async def back(
    outputs: JobOutputs,
    job_id: str,
    before: int,
    fits: Callable[[LogLine], bool],
    limit: int,
    *,
    most_bytes: int,
    line_bytes: int,
) -> Window:
    """Of the lines before line `before` the last that fit. See `ahead`."""
    taking = _Taking(fits, limit, most_bytes, line_bytes)
    taking.edge = min(before, await outputs.last(job_id) + 1)
    step = min(limit, LINES_A_READ)  # without a filter just those
    while taking.edge > 1:
        begin, lines = await _between(outputs, job_id, max(0, taking.edge - 1 - step), taking.edge)
        for line in reversed(lines):
            if not taking.take(line):
                return _window(taking, more=taking.edge > 1)
        taking.edge, step = begin + 1, LINES_A_READ
        await asyncio.sleep(0)
    return _window(taking, more=False)


async def _between(outputs: JobOutputs, job_id: str, after: int, before: int) -> tuple[int, deque[LogLine]]:
    """The lines between the two, and the first that is not among them any more: of long ones only the last are held."""
    found: deque[LogLine] = deque()
    position, begin = after, after
    while position < before - 1 and (lines := await outputs.read(job_id, position, before - 1 - position)):
        position = lines[-1].seq
        found.extend(line for line in lines if line.seq < before)  # where some are missing it may be more of them
        held = sum(len(line.text) for line in found)
        while held > MOST_CHARACTERS_HELD and len(found) > 1:
            dropped = found.popleft()
            held, begin = held - len(dropped.text), dropped.seq
    return begin, found


def _window(taking: _Taking, *, more: bool) -> Window:
    lines = sorted(taking.lines, key=lambda line: line.seq)
    return Window(lines=lines, looked_at=taking.looked_at, edge=taking.edge, more=more)
