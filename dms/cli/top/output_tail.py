"""The newest lines of a job's output, of which no more are kept than a person scrolls through. Pure."""

from __future__ import annotations

from collections import deque

from dms.cli.top.frame import OutputLines
from dms.cli.top.updates import Printed

MOST_LINES = 2000


class OutputTail:
    def __init__(self, job_id: str = "") -> None:
        self.job_id = job_id
        self._lines: deque[tuple[str, str]] = deque(maxlen=MOST_LINES)
        self._note, self._told = "", False

    def take(self, printed: Printed) -> int:
        """How many lines came; 0 for those of another job."""
        if printed.job_id != self.job_id:
            return 0
        if printed.begins:
            self._lines.clear()
            self._note = ""
        self._told = True
        self._note = printed.note or self._note
        if len(self._lines) + len(printed.lines) > MOST_LINES:
            self._note = f"only the newest {MOST_LINES:,} lines are here; all of them: nunet job logs {self.job_id}"
        self._lines.extend(printed.lines)
        return len(printed.lines)

    @property
    def shown(self) -> OutputLines:
        """Empty while nothing of it was told."""
        if not self._told:
            return OutputLines()
        note = self._note or ("" if self._lines else "nothing was printed yet")
        return OutputLines(self.job_id, tuple(self._lines), note)
