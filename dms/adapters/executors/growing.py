"""What a terminal shows of a line that has no end yet. Pure, and the standard library only: the supervisor of a process
job must start quickly."""

from __future__ import annotations

KEPT_BYTES = 8_192  # of the line's end; more is not shown
LONGEST = 1_000  # characters, as in application.growing_lines
EVERY_SECONDS = 0.25  # how often at most a line is told while it grows


class GrowingText:
    """One stream's newest line, given in parts as the job wrote them."""

    def __init__(self) -> None:
        self._line = b""

    def feed(self, data: bytes) -> None:
        line = data.rpartition(b"\n")[2] if b"\n" in data else self._line + data
        drawn = line.rstrip(b"\r").rpartition(b"\r")[2]  # what stood before a carriage return is drawn over
        ends = line[len(line.rstrip(b"\r")) :][:1]
        self._line = (drawn + ends)[-KEPT_BYTES:] if len(drawn) + len(ends) < len(line) else line[-KEPT_BYTES:]

    @property
    def shown(self) -> str:
        """Empty where a line has just ended."""
        text = self._line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
        return text[-LONGEST:]
