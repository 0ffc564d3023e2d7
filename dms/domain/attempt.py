"""An attempt of a job: one deployment of it, as its service provider knows it."""

from __future__ import annotations

import math

from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment_rules import DEPLOYMENT_RULES, DeploymentState
from dms.domain.overdue import ProviderTimes, seconds_between
from dms.domain.retry import deployment_id
from dms.domain.reward import Outcome
from dms.domain.rules import Life
from dms.domain.run_time import Instant


class Attempt:
    """minutes: that it may run. lines_before: how many lines of output the attempts before it left. checkpoints_before:
    the number of the newest checkpoint before it."""

    def __init__(
        self,
        job_id: str,
        number: int,
        provider: str = "",
        minutes: int = 0,
        resume: ResumeFrom | None = None,
        lines_before: int = 0,
        checkpoints_before: int = 0,
    ) -> None:
        self.deployment_id, self.number = deployment_id(job_id, number), number
        self.provider, self.minutes, self.resume = provider, minutes, resume
        self.lines_before, self.checkpoints_before = lines_before, checkpoints_before
        self.submitted = number > 1  # the later ones begin with it
        self.provider_version = 0  # of the newest record of the provider's deployment
        self.provider_life = Life(DEPLOYMENT_RULES)  # as its records tell it
        self.inputs_told: set[tuple[str, int]] = set()  # (topic of the provider's record, number)
        self.unreachable = False
        self.given_at: Instant | None = None  # to the provider, by our clocks; None in what older versions wrote
        self.times = ProviderTimes()
        self.responded = False  # whether its container was started
        self.started_at = 0  # by the provider's clock, Unix µs; 0 before, and in older logs
        self.over = False
        self.failure = ""  # why it failed
        self.outcome: Outcome | None = None
        self.telling_settled = False

    @property
    def ended_there(self) -> bool:
        """Whether the provider has said itself that it is over."""
        return self.provider_life.state is DeploymentState.ENDED

    @property
    def provider_to_tell(self) -> bool:
        """Whether it ended by our own decision, and its provider may still run it."""
        return self.submitted and self.over and not (self.ended_there or self.telling_settled)

    def give(self, at: Instant | None) -> None:
        """To its provider."""
        self.given_at = at
        self.times.begin(at)

    def ran_seconds(self, saved_at: int, now: Instant | None = None) -> float:
        """How much of the run a checkpoint holds; 0 where that is not known. saved_at: by the provider's clock, Unix
        µs, which may have been stepped since the start, or lie. It is believed within the time that the job may run,
        and within what has passed here since the provider got it: of now, by our clocks, where that is known."""
        if not self.started_at:
            return 0.0
        said = min(max(0.0, (saved_at - self.started_at) / 1_000_000), self.minutes * 60.0)
        if self.given_at is None or now is None:
            return said
        return min(said, seconds_between(self.given_at, now))

    def minutes_after(self, ran_seconds: float) -> int:
        """Those that are left for who goes on from such a checkpoint of it; a minute at least."""
        return max(1, math.ceil(self.minutes - ran_seconds / 60))

    def end(self, reason: str, outcome: Outcome | None) -> None:
        self.over, self.failure, self.outcome = True, reason, outcome
