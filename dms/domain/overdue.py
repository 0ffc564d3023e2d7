"""When a job at a provider that answers has taken too long all the same. By the clocks of the machine that asked for
it, as its log has them: a restart begins no limit anew."""

from __future__ import annotations

from dms.domain.run_time import Instant, RunTime

BEGIN_SECONDS = 2 * 3600.0  # until the container starts: large images take their time
MARGIN_SECONDS = 300.0  # behind the time limit, for the provider to stop it, save it and tell
STOP_SECONDS = 180.0  # until a termination has taken effect
SAVED_BYTES_A_SECOND = 5_000_000.0  # so slowly may a provider that is there archive what a job leaves
CATCH_UP_SECONDS = 60.0  # from when a provider is there, for it to tell what has happened meanwhile


class ProviderTimes:
    """What the log says of the time that a job is with its provider. None: an older version did not record it."""

    def __init__(self) -> None:
        self.since: Instant | None = None  # when it was given to the provider; once it runs, when that was told
        self.silent_since: Instant | None = None  # while it can't be reached
        self._away_seconds = 0.0  # of the silences that are over, since then

    def begin(self, at: Instant | None) -> None:
        """At the provider, or to run there."""
        self.since, self._away_seconds = at, 0.0

    def fall_silent(self, since: Instant | None) -> None:
        self.silent_since = since

    def come_back(self, at: Instant | None) -> None:
        if at is not None:
            self._away_seconds += seconds_between(self.silent_since, at)
        self.silent_since = None

    def away_seconds(self, now: Instant) -> float:
        """Of all silences that were recorded."""
        return self._away_seconds + seconds_between(self.silent_since, now)


class Overdue:
    """Of one job, for one run of this program."""

    def __init__(self, grace_seconds: float, begun: Instant, most_left_bytes: int = 0) -> None:
        """grace_seconds: so long the provider may be away, all in all, at no cost to its job. begun: when it was first
        looked at in this run. most_left_bytes: what its provider may have to archive of it before it tells its end."""
        self._grace_seconds, self._begun, self._most_left_bytes = grace_seconds, begun, most_left_bytes
        self._heard_at = begun
        self._since: dict[str, Instant] = {}  # limits of which the log does not say when they began to hold
        self._what, self._is_there = "", False

    def seconds_left(
        self,
        now: Instant,
        times: ProviderTimes,
        *,
        there_seconds: float | None,
        minutes: int,
        running: bool,
        stopping: bool,
        stop_since: Instant | None = None,
    ) -> float:
        """Until the first of the limits that hold now. there_seconds: for how long the provider has been heard without
        a break; None while it is silent: then a job goes on and ends there, and we hear of it later. minutes: the job's
        own limit. stopping: whether it is to stop, stop_since: since when; that does not wait for one who is away."""
        if there_seconds is not None:
            self._heard_at = now
        self._is_there = there_seconds is not None
        what, limit = ("running", minutes * 60 + MARGIN_SECONDS) if running else ("beginning", BEGIN_SECONDS)
        away = min(times.away_seconds(now), self._grace_seconds)
        to_end = limit - self._passed(what, times.since, now) + away
        left = {what: self._held_off(self._with_saving(to_end, now) if running else to_end, there_seconds, now)}
        if stopping:
            in_this_run = CATCH_UP_SECONDS - seconds_between(self._begun, now)
            to_stop = STOP_SECONDS - self._passed("stopping", stop_since, now)
            left["stopping"] = max(self._with_saving(to_stop, now) if running else to_stop, in_this_run)
        self._what = min(left, key=left.__getitem__)
        return left[self._what]

    def _with_saving(self, left: float, now: Instant) -> float:
        """A limit by which a job that runs is to be over, for a provider that then still archives what it left: its end
        is told behind that. One that falls silent meanwhile has a moment to come back, and no more."""
        most = left + self._saving_seconds
        if self._is_there:
            return most
        return max(left, min(most, CATCH_UP_SECONDS - seconds_between(self._heard_at, now)))

    @property
    def _saving_seconds(self) -> float:
        return self._most_left_bytes / SAVED_BYTES_A_SECOND

    def _held_off(self, left: float, there_seconds: float | None, now: Instant) -> float:
        """A limit that is reached ends nothing before the provider could tell; but it has to come to that in time."""
        patience = self._grace_seconds + CATCH_UP_SECONDS + max(left, -seconds_between(self._begun, now))
        if there_seconds is None:
            return patience
        return min(max(left, CATCH_UP_SECONDS - there_seconds), patience)

    def _passed(self, what: str, since: Instant | None, now: Instant) -> float:
        """Seconds since that limit began to hold."""
        return seconds_between(since or self._since.setdefault(what, now), now)

    def reason(self, minutes: int) -> str:
        """Why there was nothing left, for the job's owner."""
        saving = self._saving_seconds if self._is_there else 0.0
        return {
            "beginning": f"the provider did not start it within {BEGIN_SECONDS / 3600:g} h",
            "running": f"the provider did not end it at its time limit of {minutes} min, nor in the "
            f"{(MARGIN_SECONDS + saving) / 60:.3g} min after it",
            "stopping": f"the provider did not stop it within {(STOP_SECONDS + saving) / 60:.3g} min",
        }[self._what]


def seconds_between(since: Instant | None, now: Instant) -> float:
    """0 where it is not known since when."""
    return 0.0 if since is None else RunTime(since, 0).elapsed_us(now) / 1_000_000
