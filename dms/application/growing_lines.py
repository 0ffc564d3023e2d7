"""Lines of output that have no end yet, as progress bars draw them: what a terminal would show of each just now.

They are for who watches: kept in memory alone, never counted, stored or sealed. Each comes once more, whole, through
the output when its newline does. Who reads slowly misses some.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dms.application.wakeup import Wakeup
from dms.recent import Recent

MOST_JOBS = 1_000
LONGEST = 1_000  # characters


class GrowingLine(Struct, frozen=True, array_like=True, gc=False):
    """text: empty once the line has ended."""

    stream: Annotated[str, Meta(pattern=r"^(stdout|stderr)\Z")]
    text: Annotated[str, Meta(max_length=LONGEST)]


class GrowingLines:
    def __init__(self) -> None:
        self._jobs: Recent[str, dict[str, GrowingLine]] = Recent(MOST_JOBS)
        self._changed = Wakeup()

    def tell(self, job_id: str, line: GrowingLine) -> None:
        lines = self._jobs.get(job_id) or {}
        if (known := lines.get(line.stream)) != line and (known or line.text):
            self._jobs[job_id] = {**lines, line.stream: line}
            self._changed.wake()

    def of(self, job_id: str) -> tuple[GrowingLine, ...]:
        """The newest of each stream."""
        return tuple(self._jobs[job_id].values()) if job_id in self._jobs else ()

    def end(self, job_id: str) -> None:
        """Nothing grows any more."""
        for line in self.of(job_id):
            self.tell(job_id, GrowingLine(line.stream, ""))

    async def wait(self, job_id: str, known: tuple[GrowingLine, ...]) -> None:
        """Returns once they are others than those."""
        while self.of(job_id) == known:
            await self._changed.wait()
