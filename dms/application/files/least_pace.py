"""How slow the other side of a file may be: who gives or takes less would keep its place for days."""

from __future__ import annotations

LEAST_BYTES, PACE_SECONDS = 64 * 1024, 60.0  # a modem of 1990 has twice as much


class LeastPace:
    """Of one stream: LEAST_BYTES in each PACE_SECONDS that the other side is waited for."""

    def __init__(self) -> None:
        self.seconds_left, self._bytes = PACE_SECONDS, 0

    @property
    def is_kept(self) -> bool:
        return self.seconds_left > 0

    def waited(self, seconds: float, size: int) -> None:
        """For so many bytes."""
        self.seconds_left -= seconds
        self._bytes += size
        if self._bytes >= LEAST_BYTES:
            self.seconds_left, self._bytes = PACE_SECONDS, 0
