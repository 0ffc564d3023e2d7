"""How long a run has lasted, by the clock of the machine that runs it which no step of the wall clock moves.

That clock counts from the machine's boot, time asleep included, so it goes on over a restart of this program. Over a
reboot, and for runs that older versions recorded without it, only the wall clock's difference is left.
"""

from __future__ import annotations

from msgspec import Struct

STEP_US = 1_000_000  # the two clocks run equally fast; a larger change of their difference is a step


class Instant(Struct, frozen=True):
    """One moment on both clocks of a machine, in microseconds. boot_id: of the boot that boot_us counts from, empty
    when unknown. wall_us: Unix time."""

    boot_id: str
    boot_us: int
    wall_us: int


class RunTime(Struct, frozen=True):
    """Of one run. started: when it began; limit_us: how long it may last."""

    started: Instant
    limit_us: int

    def elapsed_us(self, now: Instant) -> int:
        """Never negative."""
        began = self.started
        passed = now.boot_us - began.boot_us if self._same_boot(now) else now.wall_us - began.wall_us
        return max(0, passed)

    def left_seconds(self, now: Instant) -> float:
        """Until the limit, 0 when it is reached."""
        return max(0, self.limit_us - self.elapsed_us(now)) / 1_000_000

    def is_over(self, now: Instant) -> bool:
        return self.elapsed_us(now) >= self.limit_us

    def lasted_seconds(self, now: Instant, started_at: int, finished_at: int) -> float:
        """Of a run found over now. started_at, finished_at: as its engine stamped them, in Unix microseconds, 0 when
        unknown. They are exact where the wall clock was not stepped; else the run lasted until now at most."""
        elapsed, stamped = self.elapsed_us(now), max(0, finished_at - started_at)
        if not finished_at or not started_at or self._stepped(now):
            return elapsed / 1_000_000
        return min(elapsed, stamped) / 1_000_000

    def _same_boot(self, now: Instant) -> bool:
        return bool(now.boot_id) and now.boot_id == self.started.boot_id

    def _stepped(self, now: Instant) -> bool:
        began = self.started
        return self._same_boot(now) and abs((now.wall_us - now.boot_us) - (began.wall_us - began.boot_us)) > STEP_US


def began(now: Instant, *, asked: Instant | None, started_at: int, started_boot_us: int) -> Instant:
    """When a run began that is first seen now. asked: the moment before we had it started ourselves, None when it was
    found running. started_at: the engine's stamp in Unix microseconds, 0 when unknown. started_boot_us: of its process
    on this machine's boot clock, 0 when unknown."""
    if started_boot_us:
        return Instant(now.boot_id, started_boot_us, now.wall_us - (now.boot_us - started_boot_us))
    if asked is not None:
        return asked
    ago = max(0, now.wall_us - started_at) if started_at else 0
    return Instant(now.boot_id, now.boot_us - ago, now.wall_us - ago)
