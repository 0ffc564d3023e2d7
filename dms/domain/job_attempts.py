"""A job's attempts, as its service provider sees them: which provider has it, what that says, and what follows when an
attempt is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec.structs import replace

from dms.domain.aggregate import applies
from dms.domain.attempt import Attempt
from dms.domain.chain import SignedRecord
from dms.domain.checkpoint import ResumeFrom, is_sha256
from dms.domain.deployment import Deployment
from dms.domain.event import EVENT_TYPES, Event, Unknown
from dms.domain.job_events import JobEvents, Refusal
from dms.domain.job_rules import JOB_RULES, OPEN, JobState
from dms.domain.paid_work import PaidWork
from dms.domain.provider_records import consequences
from dms.domain.retry import may_be_repeated
from dms.domain.reward import Fault, Outcome
from dms.domain.rules import Rules
from dms.errors import Conflict, OutOfOrder, PeerMisbehaved

MISBEHAVIOURS_KEPT = 8  # of one job: a provider could fill the log
TOPIC_KEPT = 128  # characters of a peer's word


class AttemptedJob(JobEvents, PaidWork):
    """The part of a job that its providers take part in."""

    KIND: ClassVar[str] = "job"
    RULES: ClassVar[Rules[JobState]] = JOB_RULES
    PENDING = JobEvents.FundingPending
    CLAIMED, SETTLED = JobEvents.RewardClaimed, JobEvents.RewardSettled

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.attempts = [Attempt(key, 1)]
        self.max_attempts = 1  # on the one payment
        self.last_failure: JobEvents.AttemptFailed | None = None  # of an attempt
        self.failure = ""  # why the job failed
        self.minutes_left = 0  # for who goes on from the newest checkpoint that was received
        self.misbehaviours = 0
        self.termination: str | None = None
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
    def has_provider(self) -> bool:
        """Whether a provider was chosen for it, and neither the job nor its attempt is over."""
        return self.open and self.state is not JobState.RETRYING

    @property
    def deployment_id(self) -> str:
        return self.attempt.deployment_id

    @property
    def provider(self) -> str:
        """Who has it now, or had it last."""
        return self.attempt.provider

    @property
    def provider_version(self) -> int:
        return self.attempt.provider_version

    @property
    def unreachable(self) -> bool:
        return self.attempt.unreachable

    @property
    def minutes(self) -> int:
        return self.attempt.minutes

    @property
    def attempts_to_tell(self) -> list[Attempt]:
        """Those that ended by our own decision, and whose providers may still run them."""
        return [attempt for attempt in self.attempts if attempt.provider_to_tell]

    @property
    def checkpoint_wanted(self) -> JobEvents.CheckpointOffered | None:
        """The newest checkpoint, while it is to be fetched; also after the job's end."""
        offered = self.checkpoint_offered
        return offered if offered is not None and offered.number > self.checkpoint_settled else None

    # --- what its provider says ---------------------------------------------------------------
    def report_from_provider(self, record: SignedRecord, event: Event) -> None:
        """Takes one verified record of the provider's deployment and draws the consequence. event: what it says.
        One that is known already is left alone. Raises PeerMisbehaved, and changes nothing, on a gap, a foreign stream,
        or what can't follow in the life of a deployment; `provider_misbehaved` records it."""
        if record.version <= self.provider_version or not self.has_provider:
            return
        if record.stream != f"{Deployment.KIND}-{self.deployment_id}" or record.version != self.provider_version + 1:
            raise PeerMisbehaved(
                f"job {self.key}: expected version {self.provider_version + 1} of its deployment, "
                f"got version {record.version} of {record.stream}"
            )
        ran = self.state is JobState.RUNNING
        if isinstance(event, Deployment.CheckpointSaved) and not ran:
            raise PeerMisbehaved(f"job {self.key}: a checkpoint of a container that was never started")
        try:
            self.attempt.provider_life.check(event)
            follow = self._as_attempt(event, consequences(event, ran=ran))
            self.trigger(self.ProviderReported(record=record), *follow)
        except OutOfOrder as error:
            raise PeerMisbehaved(f"job {self.key}: the provider's record {record.version}: {error}") from error

    def _as_attempt(self, event: Event, follow: Sequence[Event]) -> list[Event]:
        """What follows from a record, as it is for this attempt: with its number, and without an end of the job where
        it is tried again."""
        found: list[Event] = []
        for one in follow:
            match one:
                case self.Failed() if self._is_repeated_after(one):
                    return [self._attempt_failed(one)]  # nor was the job refused
                case self.LogSealed():
                    found.append(replace(one, attempt=self.attempt.number))
                case self.DeploymentResponded(success=True):
                    stops_at = event.stops_at if isinstance(event, Deployment.ContainerStarted) else 0
                    started_at = max(0, stops_at - self.minutes * 60_000_000)
                    repeated = any(earlier.responded for earlier in self.attempts)
                    found.append(replace(one, started_at=started_at, repeated=repeated))
                case _:
                    found.append(one)
        return found

    def _is_repeated_after(self, failed: JobEvents.Failed) -> bool:
        """Whether such an end is not that of the job: then it is tried again."""
        left = self.attempt.number < self.max_attempts and self.termination is None
        there = self.state in (JobState.SUBMITTED, JobState.RUNNING)
        return left and there and may_be_repeated(failed.fault, outcome_of(failed), self.minutes)

    def _attempt_failed(self, failed: JobEvents.Failed) -> Event:
        return self.AttemptFailed(
            attempt=self.attempt.number,
            reason=failed.reason,
            fault=failed.fault,
            exit_code=failed.exit_code,
            duration_seconds=failed.duration_seconds,
        )

    def start_attempt(
        self,
        provider: str,
        payee: str,
        resume: ResumeFrom | None,
        lines_before: int,
        refused: tuple[Refusal, ...] = (),
        refused_count: int = 0,
    ) -> None:
        """The next one, after one that failed. resume: the newest checkpoint; without one all of the time is left.
        A checkpoint that is still to be fetched is not waited for any more."""
        if (wanted := self.checkpoint_wanted) is not None:
            self.lose_checkpoint(wanted.number, "the job goes on without it, at another provider")
        self.trigger(
            self.AttemptStarted(
                attempt=self.attempt.number + 1,
                provider=provider,
                price=self.price,
                minutes=self.minutes_to_give(resume),
                payee=payee,
                resume=resume,
                lines_before=lines_before,
                refused=refused,
                refused_count=refused_count,
            )
        )

    def minutes_to_give(self, resume: ResumeFrom | None) -> int:
        """Those that the next attempt may run: what the newest checkpoint leaves, or all when it begins anew."""
        if resume is None:
            return self.request.constraints.time if self.request else 0
        received = self.checkpoint_received
        return self.minutes_left if received is not None and received.sha256 == resume.sha256 else self.minutes

    # --- checkpoints ----------------------------------------------------------------------------
    def check_checkpoint(self, saved: Deployment.CheckpointSaved) -> None:
        """Raises PeerMisbehaved when what the provider says that it has archived makes no sense."""
        last = self.checkpoint_offered.number if self.checkpoint_offered else 0
        known = saved.number + self.attempt.checkpoints_before <= last
        if known or saved.size_bytes <= 0 or not is_sha256(saved.sha256):
            raise PeerMisbehaved(f"job {self.key}: checkpoint {saved.number} has no valid number, size or digest")

    def offer_checkpoint(self, saved: Deployment.CheckpointSaved, fetch_until: int, max_bytes: int) -> None:
        """What the provider has archived. Raises PeerMisbehaved as `check_checkpoint`. max_bytes: larger ones are not
        fetched."""
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
                ran_seconds=self.attempt.ran_seconds(saved.saved_at),
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

    # --- where its providers are, and what they know -------------------------------------------
    def provider_misbehaved(self, version: int, topic: str, reason: str) -> bool:
        """Whether it is recorded: the first few of an open job are. version, topic: of the record."""
        if not self.has_provider or self.misbehaviours >= MISBEHAVIOURS_KEPT:
            return False
        self.trigger(self.ProviderMisbehaved(version=version, topic=topic[:TOPIC_KEPT], reason=reason))
        return True

    def provider_unreachable(self, reason: str) -> bool:
        if self.unreachable or not self.has_provider:
            return False
        self.trigger(self.ProviderUnreachable(reason=reason))
        return True

    def provider_returned(self) -> bool:
        if not self.unreachable or not self.has_provider:
            return False
        self.trigger(self.ProviderReturned())
        return True

    def provider_told(self, number: int = 1) -> bool:
        """Whether that is news: the provider of that attempt knows of our end, or never had the job."""
        if not self.attempts[number - 1].provider_to_tell:
            return False
        self.trigger(self.ProviderTold(attempt=number))
        return True

    def telling_given_up(self, reason: str, number: int = 1) -> bool:
        """Whether the provider of that attempt was still to be told of our end."""
        if not self.attempts[number - 1].provider_to_tell:
            return False
        self.trigger(self.TellingGivenUp(reason=reason, attempt=number))
        return True

    # --- ends -------------------------------------------------------------------------------------
    def fail(self, reason: str, fault: Fault, exit_code: int | None = None, duration_seconds: float = 0.0) -> None:
        self.trigger(self.Failed(reason=reason, fault=fault, exit_code=exit_code, duration_seconds=duration_seconds))

    def fail_attempt(self, reason: str, fault: Fault) -> None:
        """By our own decision: the end of the job, unless it is tried again."""
        failed = self.Failed(reason=reason, fault=fault)
        self.trigger(self._attempt_failed(failed) if self._is_repeated_after(failed) else failed)

    def not_repeated(self, reason: str) -> None:
        """It can't be tried again: its end is that of the last attempt. reason: why."""
        failed = self.last_failure
        if failed is None:
            raise Conflict(f"no attempt of job {self.key} has failed")
        self.fail(f"{failed.reason}; {reason}", failed.fault, failed.exit_code, failed.duration_seconds)

    # --- what the events change -------------------------------------------------------------------
    @applies(JobEvents.AttemptFailed)
    def _attempt_is_over(self, event: JobEvents.AttemptFailed) -> None:
        self.last_failure = event
        self.attempt.end(event.reason, outcome_of(event))

    @applies(JobEvents.AttemptStarted)
    def _attempt_started(self, event: JobEvents.AttemptStarted) -> None:
        self.payee, self.resume, self.price = event.payee, event.resume, event.price
        newest = self.checkpoint_offered.number if self.checkpoint_offered else 0
        self.attempts.append(
            Attempt(
                self.key, event.attempt, event.provider, event.minutes, event.resume, event.lines_before, newest
            )
        )  # fmt: skip

    @applies(JobEvents.DeploymentResponded)
    def _deployment_responded(self, event: JobEvents.DeploymentResponded) -> None:
        self.attempt.responded, self.attempt.started_at = event.success, event.started_at

    @applies(JobEvents.ProviderReported)
    def _provider_reported(self, event: JobEvents.ProviderReported) -> None:
        self.attempt.provider_version = event.record.version
        self.attempt.provider_life.move(EVENT_TYPES.get(event.record.topic, Unknown))

    @applies(JobEvents.ProviderMisbehaved)
    def _provider_misbehaved(self, _: JobEvents.ProviderMisbehaved) -> None:
        self.misbehaviours += 1

    @applies(JobEvents.ProviderTold)
    def _provider_told(self, event: JobEvents.ProviderTold) -> None:
        self._telling_is_settled(event.attempt)

    @applies(JobEvents.TellingGivenUp)
    def _telling_given_up(self, event: JobEvents.TellingGivenUp) -> None:
        self._telling_is_settled(event.attempt)

    def _telling_is_settled(self, number: int) -> None:
        for attempt in self.attempts[number - 1 : number]:  # none, where a log is not what we would have written
            attempt.telling_settled = True

    @applies(JobEvents.ProviderUnreachable)
    def _provider_unreachable(self, _: JobEvents.ProviderUnreachable) -> None:
        self.attempt.unreachable = True

    @applies(JobEvents.ProviderReturned)
    def _provider_returned(self, _: JobEvents.ProviderReturned) -> None:
        self.attempt.unreachable = False

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

    @applies(JobEvents.Completed)
    def _completed(self, event: JobEvents.Completed) -> None:
        self.outcome = outcome_of(event)
        self.attempt.end("", self.outcome)

    @applies(JobEvents.Failed)
    def _failed(self, event: JobEvents.Failed) -> None:
        self.outcome, self.failure = outcome_of(event), event.reason
        if not self.attempt.over:  # else no other followed
            self.attempt.end(event.reason, self.outcome)


def outcome_of(event: Event) -> Outcome | None:
    """What a job's event says of its end, or of an attempt's; None when it ends neither."""
    match event:
        case JobEvents.Completed():
            return Outcome(completed=True, duration_seconds=event.duration_seconds)
        case JobEvents.Failed() | JobEvents.AttemptFailed():
            return Outcome(provider_fault=event.fault.of_provider, duration_seconds=event.duration_seconds)
    return None
