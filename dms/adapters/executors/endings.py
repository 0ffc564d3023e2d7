"""What an engine remembers of the end of a run, and whose doing it was. Pure.

Evidence is a signal that was sent to the job, and what came of it. A job that got a signal long ago and went on is not
ended by it, for some take one as an order to read their settings again.
"""

from __future__ import annotations

import signal

SOON_SECONDS = 60.0  # so long after a signal that asks for an end the end is its doing
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL})


def is_ended_by(number: int, exit_code: int, seconds: float, stop_signal: int = signal.SIGTERM) -> bool:
    """Whether the signal ended the job. seconds: from the signal to the end. stop_signal: what its image takes as the
    order to end."""
    if number == signal.SIGKILL or exit_code == 128 + number:
        return True
    return (number in ENDING or number == stop_signal) and 0 <= seconds <= SOON_SECONDS
