"""When a job at a provider that answers has taken too long all the same. By the requester's own clock."""

from __future__ import annotations

BEGIN_SECONDS = 2 * 3600.0  # until the container starts: large images take their time
MARGIN_SECONDS = 300.0  # behind the time limit, for the provider to stop it, save it and tell
STOP_SECONDS = 180.0  # until a termination has taken effect


class Overdue:
    """Of one job, as long as it is followed. Times: seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._what = ""

    def seconds_left(self, now: float, *, minutes: int, running: bool, stopping: bool) -> float:
        """Until the first of the limits that hold now; each counts from when it began to hold. minutes: the job's own
        limit."""
        self._since.setdefault("running" if running else "beginning", now)
        limits = {"running": minutes * 60 + MARGIN_SECONDS} if running else {"beginning": BEGIN_SECONDS}
        if stopping:
            self._since.setdefault("stopping", now)
            limits["stopping"] = STOP_SECONDS
        left = {what: self._since[what] + seconds - now for what, seconds in limits.items()}
        self._what = min(left, key=left.__getitem__)
        return left[self._what]

    def reason(self, minutes: int) -> str:
        """Why there was nothing left, for the job's owner."""
        return {
            "beginning": f"the provider did not start it within {BEGIN_SECONDS / 3600:g} h",
            "running": f"the provider did not end it at its time limit of {minutes} min, nor in the "
            f"{MARGIN_SECONDS / 60:g} min after it",
            "stopping": f"the provider did not stop it within {STOP_SECONDS / 60:g} min",
        }[self._what]
