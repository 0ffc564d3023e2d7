"""A job's checkpoints, as its service provider has them: one count over all attempts."""

from __future__ import annotations

from typing import ClassVar

from dms.domain.aggregate import applies
from dms.domain.attempt import Attempt
from dms.domain.checkpoint import ResumeFrom, is_sha256
from dms.domain.deployment import Deployment
from dms.domain.job_events import JobEvents
from dms.domain.job_rules import JOB_RULES, OPEN, JobState
from dms.domain.paid_work import PaidWork
from dms.domain.rules import Rules
from dms.domain.run_time import Instant
from dms.errors import PeerMisbehaved


class CheckpointedJob(JobEvents, PaidWork):
    """The part of a job that its checkpoints take part in."""

    KIND: ClassVar[str] = "job"
    RULES: ClassVar[Rules[JobState]] = JOB_RULES
    PENDING = JobEvents.FundingPending
    CLAIMED, SETTLED = JobEvents.RewardClaimed, JobEvents.RewardSettled

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.attempts = [Attempt(key, 1)]
        self.minutes_left = 0  # for who goes on from the newest checkpoint that was received
        self.checkpoint_offered: JobEvents.CheckpointOffered | None = None
        self.checkpoint_received: JobEvents.CheckpointReceived | None = None
        self.checkpoint_settled = 0  # the newest number that was received or lost

    @property
    def state(self) -> JobState:
        state: JobState = self.life.state
        return state

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def attempt(self) -> Attempt:
        """The newest."""
        return self.attempts[-1]

    @property
    def checkpoint_wanted(self) -> JobEvents.CheckpointOffered | None:
        """The newest checkpoint, while it is to be fetched; also after the job's end."""
        offered = self.checkpoint_offered
        return offered if offered is not None and offered.number > self.checkpoint_settled else None

    # --- commands ------------------------------------------------------------------------------
    def check_checkpoint(self, saved: Deployment.CheckpointSaved) -> None:
        """Raises PeerMisbehaved when what the provider says that it has archived makes no sense."""
        last = self.checkpoint_offered.number if self.checkpoint_offered else 0
        known = saved.number + self.attempt.checkpoints_before <= last
        if known or saved.size_bytes <= 0 or not is_sha256(saved.sha256):
            raise PeerMisbehaved(f"job {self.key}: checkpoint {saved.number} has no valid number, size or digest")

    def offer_checkpoint(
        self, saved: Deployment.CheckpointSaved, fetch_until: int, max_bytes: int, now: Instant | None = None
    ) -> None:
        """What the provider has archived. Raises PeerMisbehaved as `check_checkpoint`. max_bytes: larger ones are not
        fetched. now: by this machine's clocks."""
        if not self.open:
            return
        self.check_checkpoint(saved)
        number = saved.number + self.attempt.checkpoints_before  # one count for all attempts
        self.trigger(
            self.CheckpointOffered(
                number=number,
                name=saved.name[:255],
                size_bytes=saved.size_bytes,
                sha256=saved.sha256,
                saved_at=saved.saved_at,
                fetch_until=fetch_until,
                ran_seconds=self.attempt.ran_seconds(saved.saved_at, now),
            )
        )
        if saved.size_bytes > max_bytes:
            reason = f"it has {saved.size_bytes / 2**20:.0f} MiB, more than job.checkpoint_max_mb allows"
            self.trigger(self.CheckpointLost(number=number, reason=reason))

    def checkpoint_is_here(self, offered: JobEvents.CheckpointOffered, name: str) -> bool:
        """Whether it was waited for; a newer one may have been offered meanwhile."""
        if offered.number <= self.checkpoint_settled:
            return False
        self.trigger(
            self.CheckpointReceived(
                number=offered.number, name=name, size_bytes=offered.size_bytes, sha256=offered.sha256
            )
        )
        return True

    def lose_checkpoint(self, number: int, reason: str) -> bool:
        """Whether it was waited for."""
        if number <= self.checkpoint_settled:
            return False
        self.trigger(self.CheckpointLost(number=number, reason=reason))
        return True

    def minutes_to_give(self, resume: ResumeFrom | None) -> int:
        """Those that the next attempt may run: what the newest checkpoint leaves, or all when it begins anew."""
        if resume is None:
            return self.request.constraints.time if self.request else 0
        received = self.checkpoint_received
        return self.minutes_left if received is not None and received.sha256 == resume.sha256 else self.minutes

    # --- what the events change -------------------------------------------------------------------
    @applies(JobEvents.CheckpointOffered)
    def _checkpoint_offered(self, event: JobEvents.CheckpointOffered) -> None:
        self.checkpoint_offered = event

    @applies(JobEvents.CheckpointReceived)
    def _checkpoint_received(self, event: JobEvents.CheckpointReceived) -> None:
        self.checkpoint_received = event
        offered = self.checkpoint_offered
        if offered is not None and offered.number == event.number:
            self.minutes_left = self.attempt.minutes_after(offered.ran_seconds)
        self.checkpoint_settled = max(self.checkpoint_settled, event.number)

    @applies(JobEvents.CheckpointLost)
    def _checkpoint_lost(self, event: JobEvents.CheckpointLost) -> None:
        self.checkpoint_settled = max(self.checkpoint_settled, event.number)
