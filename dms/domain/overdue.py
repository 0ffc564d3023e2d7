"""When a job at a provider that answers has taken too long all the same. By the requester's own clock."""

from __future__ import annotations

BEGIN_SECONDS = 2 * 3600.0  # until the container starts: large images take their time
MARGIN_SECONDS = 300.0  # behind the time limit, for the provider to stop it, save it and tell
STOP_SECONDS = 180.0  # until a termination has taken effect


class Overdue:
    """Of one job, as long as it is followed. Times: seconds of a monotonic clock."""

    def __init__(self, grace_seconds: float) -> None:
        """grace_seconds: so long the provider may be away, all in all, at no cost to its job."""
        self._grace_seconds = grace_seconds
        self._since: dict[str, float] = {}
        self._what = ""

    def seconds_left(
        self, now: float, *, away_seconds: float = 0.0, minutes: int, running: bool, stopping: bool
    ) -> float:
        """Until the first of the limits that hold now; each counts from when it began to hold. away_seconds: how long
        the provider could not be reached until now; a job goes on and ends there meanwhile, and we hear of it later.
        A termination does not wait for that. minutes: the job's own limit."""
        there = now - min(away_seconds, self._grace_seconds)
        if running:
            left = {"running": minutes * 60 + MARGIN_SECONDS - self._passed("running", there)}
        else:
            left = {"beginning": BEGIN_SECONDS - self._passed("beginning", there)}
        if stopping:
            left["stopping"] = STOP_SECONDS - self._passed("stopping", now)
        self._what = min(left, key=left.__getitem__)
        return left[self._what]

    def _passed(self, what: str, now: float) -> float:
        """Seconds since that limit began to hold."""
        return now - self._since.setdefault(what, now)

    def reason(self, minutes: int) -> str:
        """Why there was nothing left, for the job's owner."""
        return {
            "beginning": f"the provider did not start it within {BEGIN_SECONDS / 3600:g} h",
            "running": f"the provider did not end it at its time limit of {minutes} min, nor in the "
            f"{MARGIN_SECONDS / 60:g} min after it",
            "stopping": f"the provider did not stop it within {STOP_SECONDS / 60:g} min",
        }[self._what]
