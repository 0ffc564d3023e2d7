"""A job's attempts, as its service provider sees them: which provider has it, what that says, and what follows when an
attempt is over."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dms.domain.aggregate import applies
from dms.domain.attempt import Attempt
from dms.domain.chain import SignedRecord
from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment import Deployment
from dms.domain.event import EVENT_TYPES, Event, Unknown
from dms.domain.job_events import JobEvents, Refusal
from dms.domain.job_inputs import JobInputs
from dms.domain.job_results import JobResults
from dms.domain.job_rules import JobState
from dms.domain.provider_records import consequences
from dms.domain.retry import may_be_repeated
from dms.domain.reward import Fault, Outcome
from dms.domain.run_time import Instant
from dms.errors import Conflict, OutOfOrder, PeerMisbehaved

MISBEHAVIOURS_KEPT = 8  # of one job: a provider could fill the log
TOPIC_KEPT = 128  # characters of a peer's word


class AttemptedJob(JobResults, JobInputs):
    """The part of a job that its providers take part in."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.max_attempts = 1  # on the one payment
        self.last_failure: JobEvents.AttemptFailed | None = None  # of an attempt
        self.failure = ""  # why the job failed
        self.misbehaviours = 0
        self.termination: str | None = None

    @property
    def has_provider(self) -> bool:
        """Whether a provider was chosen for it, and neither the job nor its attempt is over."""
        return self.open and self.state is not JobState.RETRYING

    def is_run_by(self, peer_id: str, deployment_id: str) -> bool:
        """Whether that is the provider that has it now, and its attempt."""
        return self.has_provider and (self.provider, self.deployment_id) == (peer_id, deployment_id)

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
    def ran(self) -> bool:
        return any(attempt.responded for attempt in self.attempts)

    @property
    def may_still_run(self) -> bool:
        return self.open or bool(self.attempts_to_tell)

    @property
    def attempts_to_tell(self) -> list[Attempt]:
        """Those that ended by our own decision, and whose providers may still run them."""
        return [attempt for attempt in self.attempts if attempt.provider_to_tell]

    # --- what its provider says ---------------------------------------------------------------
    def report_from_provider(self, record: SignedRecord, event: Event, at: Instant | None = None) -> None:
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
        if problem := self.problem_of_input(event):
            raise PeerMisbehaved(f"job {self.key}: the provider's record {record.version}: {problem}")
        try:
            self.attempt.provider_life.check(event)
            follow = self._as_attempt(event, consequences(event, ran=ran), at)
            self.trigger(self.ProviderReported(record=record), *follow)
        except OutOfOrder as error:
            raise PeerMisbehaved(f"job {self.key}: the provider's record {record.version}: {error}") from error

    def _as_attempt(self, event: Event, follow: Sequence[Event], at: Instant | None) -> list[Event]:
        """What follows from a record, as it is for this attempt: with its number, and without an end of the job where
        it is tried again."""
        found: list[Event] = []
        for one in follow:
            match one:
                case self.Failed() if self._is_repeated_after(one):
                    return [self._attempt_failed(one)]  # nor was the job refused
                case self.LogSealed():
                    found.append(replace(one, attempt=self.attempt.number))
                case self.Failed():
                    found.append(replace(one, refund=self._refund_due))
                case self.DeploymentResponded(success=True):
                    stops_at = event.stops_at if isinstance(event, Deployment.ContainerStarted) else 0
                    started_at = max(0, stops_at - self.minutes * 60_000_000)
                    repeated = any(earlier.responded for earlier in self.attempts)
                    found.append(replace(one, started_at=started_at, repeated=repeated, at=at))
                case _:
                    found.append(one)
        return found

    @property
    def _refund_due(self) -> bool:
        """Whether all of the price is owed back, should it end now."""
        return self.funded and not self.ran

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
        at: Instant | None = None,
    ) -> None:
        """The next one, after one that failed. resume: the newest checkpoint; without one all of the time is left.
        What is still to be fetched is not waited for any more."""
        if (wanted := self.checkpoint_wanted) is not None:
            self.lose_checkpoint(wanted.number, "the job goes on without it, at another provider")
        if (results := self.results_wanted) is not None:
            self.lose_results(results, "the job goes on at another provider")
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
                at=at,
            )
        )

    # --- where its providers are, and what they know -------------------------------------------
    def provider_misbehaved(self, version: int, topic: str, reason: str) -> bool:
        """Whether it is recorded: the first few of an open job are. version, topic: of the record."""
        if not self.has_provider or self.misbehaviours >= MISBEHAVIOURS_KEPT:
            return False
        self.trigger(self.ProviderMisbehaved(version=version, topic=topic[:TOPIC_KEPT], reason=reason))
        return True

    def provider_unreachable(self, reason: str, since: Instant | None = None) -> bool:
        if self.unreachable or not self.has_provider:
            return False
        self.trigger(self.ProviderUnreachable(reason=reason, since=since))
        return True

    def provider_returned(self, at: Instant | None = None) -> bool:
        if not self.unreachable or not self.has_provider:
            return False
        self.trigger(self.ProviderReturned(at=at))
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
        self.trigger(
            self.Failed(
                reason=reason,
                fault=fault,
                exit_code=exit_code,
                duration_seconds=duration_seconds,
                refund=self._refund_due,
            )
        )

    def fail_attempt(self, reason: str, fault: Fault) -> None:
        """By our own decision: the end of the job, unless it is tried again."""
        failed = self.Failed(reason=reason, fault=fault, refund=self._refund_due)
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
        self.begin_results_anew()
        newest = self.checkpoint_offered.number if self.checkpoint_offered else 0
        self.attempts.append(
            Attempt(
                self.key, event.attempt, event.provider, event.minutes, event.resume, event.lines_before, newest
            )
        )  # fmt: skip
        self.attempt.give(event.at)

    @applies(JobEvents.DeploymentResponded)
    def _deployment_responded(self, event: JobEvents.DeploymentResponded) -> None:
        self.attempt.responded, self.attempt.started_at = event.success, event.started_at
        if event.success:
            self.attempt.times.begin(event.at)

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
    def _provider_unreachable(self, event: JobEvents.ProviderUnreachable) -> None:
        self.attempt.unreachable = True
        self.attempt.times.fall_silent(event.since)

    @applies(JobEvents.ProviderReturned)
    def _provider_returned(self, event: JobEvents.ProviderReturned) -> None:
        self.attempt.unreachable = False
        self.attempt.times.come_back(event.at)

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
