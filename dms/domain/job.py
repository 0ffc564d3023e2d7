"""A job: one request to run a container, as its service provider sees it, from quote to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from dms.domain.aggregate import applies
from dms.domain.chain import SignedRecord
from dms.domain.checkpoint import ResumeFrom, is_sha256
from dms.domain.deployment import Deployment
from dms.domain.deployment_rules import DEPLOYMENT_RULES, DeploymentState
from dms.domain.event import EVENT_TYPES, Event, Unknown
from dms.domain.job_events import JobEvents, Refusal
from dms.domain.job_rules import JOB_RULES, OPEN, JobState
from dms.domain.paid_work import PaidWork
from dms.domain.provider_records import consequences
from dms.domain.request import ServiceRequest
from dms.domain.reward import Fault, Outcome
from dms.domain.rules import Life, Rules
from dms.errors import Conflict, OutOfOrder, PeerMisbehaved

__all__ = ["FundStatus", "Job", "JobState", "Refusal", "outcome_of"]

STATUSES = (
    "success",
    "pending",
    "failed",
    "failure",
    "error",
    "refused",
    "rejected",
    "cancelled",
    "canceled",
    "expired",
)
TRANSACTION_TYPES = ("fund", "withdraw", "refund", "distribute")
OTHER = "other"
MISBEHAVIOURS_KEPT = 8  # of one job: a provider could fill the log
TOPIC_KEPT = 128  # characters of a peer's word


class FundStatus(Struct, frozen=True, kw_only=True):
    """What a client reports of its payment (`send-status`)."""

    transaction_type: str
    transaction_status: str
    tx_hash: str


class Job(JobEvents, PaidWork):
    KIND: ClassVar[str] = "job"
    RULES: ClassVar[Rules[JobState]] = JOB_RULES
    PENDING = JobEvents.FundingPending
    CLAIMED, SETTLED = JobEvents.RewardClaimed, JobEvents.RewardSettled

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.provider = ""
        self.expires_at = 0
        self.tx_hash = ""
        self.last_status: FundStatus | None = None
        self.provider_version = 0  # of the newest record of the provider's deployment
        self.provider_life = Life(DEPLOYMENT_RULES)  # as its records tell it
        self.submitted = False
        self._ran = False
        self.failure = ""  # why it failed
        self.telling_settled = False
        self.misbehaviours = 0
        self.unreachable = False
        self.termination: str | None = None
        self.checkpoint_offered: Job.CheckpointOffered | None = None
        self.checkpoint_received: Job.CheckpointReceived | None = None
        self.checkpoint_settled = 0  # the newest number that was received or lost

    @property
    def state(self) -> JobState:
        state: JobState = self.life.state
        return state

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def checks_funding(self) -> bool:
        return self.state is JobState.FUNDING

    @property
    def ran(self) -> bool:
        return self._ran

    @property
    def may_still_run(self) -> bool:
        return self.open or self.provider_to_tell

    @property
    def provider_to_tell(self) -> bool:
        """Whether the job ended by our own decision, and its provider may still run it."""
        ended_there = self.provider_life.state is DeploymentState.ENDED
        return self.submitted and not (self.open or ended_there or self.telling_settled)

    @property
    def checkpoint_wanted(self) -> Job.CheckpointOffered | None:
        """The newest checkpoint, while it is to be fetched; also after the job's end."""
        offered = self.checkpoint_offered
        return offered if offered is not None and offered.number > self.checkpoint_settled else None

    # --- commands ---------------------------------------------------------------------------
    def request_service(
        self,
        request: ServiceRequest,
        provider: str,
        price: str,
        expires_at: int,
        refused: tuple[Refusal, ...],
        refused_count: int,
        payee: str = "",
        resume: ResumeFrom | None = None,
    ) -> None:
        self.trigger(
            self.ServiceRequested(
                request=request,
                provider=provider,
                price=price,
                expires_at=expires_at,
                refused=refused,
                refused_count=refused_count,
                payee=payee,
                resume=resume,
            )
        )

    def report_fund_status(self, status: FundStatus) -> bool:
        """`pending` is recorded, `success` goes on to the check, anything else fails the job.
        Answers False, and does nothing, when this very report came before.
        Raises Conflict when another payment was, or the job is over."""
        if self.state is not JobState.AWAITING:
            if self.tx_hash and self.tx_hash == status.tx_hash:
                return False
            raise Conflict(f"job {self.key} does not await funding: it is {self.state}")
        # Words of the client's own may tell of a person, and these two fields are open in the log.
        kept = FundStatus(
            transaction_type=_one_of(TRANSACTION_TYPES, status.transaction_type),
            transaction_status=_one_of(STATUSES, status.transaction_status),
            tx_hash=status.tx_hash,
        )
        if kept == self.last_status:
            return False
        self.trigger(
            self.FundStatusReported(
                transaction_type=kept.transaction_type,
                transaction_status=kept.transaction_status,
                tx_hash=kept.tx_hash,
            )
        )
        if status.transaction_status not in ("success", "pending"):
            self.fail(f"payment was reported as '{status.transaction_status}'", Fault.REQUESTER)
        return True

    def accept_funding(self, check: str, payer: str = "", units: str = "", block: int = 0) -> None:
        self.trigger(
            self.FundingAccepted(tx_hash=self.tx_hash, check=check, payer=payer, units=units, block=block),
            self.Submitted(provider=self.provider),
        )

    def reject_funding(self, reason: str) -> None:
        self.trigger(
            self.FundingRejected(tx_hash=self.tx_hash, reason=reason),
            self.Failed(reason=reason, fault=Fault.REQUESTER),
        )

    def report_from_provider(self, record: SignedRecord, event: Event) -> None:
        """Takes one verified record of the provider's deployment and draws the consequence. event: what it says.
        One that is known already is left alone. Raises PeerMisbehaved, and changes nothing, on a gap, a foreign stream,
        or what can't follow in the life of a deployment; `provider_misbehaved` records it."""
        if record.version <= self.provider_version or not self.open:
            return
        if record.stream != f"{Deployment.KIND}-{self.key}" or record.version != self.provider_version + 1:
            raise PeerMisbehaved(
                f"job {self.key}: expected version {self.provider_version + 1} of its deployment, "
                f"got version {record.version} of {record.stream}"
            )
        ran = self.state is JobState.RUNNING
        if isinstance(event, Deployment.CheckpointSaved) and not ran:
            raise PeerMisbehaved(f"job {self.key}: a checkpoint of a container that was never started")
        try:
            self.provider_life.check(event)
            self.trigger(self.ProviderReported(record=record), *consequences(event, ran=ran))
        except OutOfOrder as error:
            raise PeerMisbehaved(f"job {self.key}: the provider's record {record.version}: {error}") from error

    def check_checkpoint(self, saved: Deployment.CheckpointSaved) -> None:
        """Raises PeerMisbehaved when what the provider says that it has archived makes no sense."""
        last = self.checkpoint_offered.number if self.checkpoint_offered else 0
        if saved.number <= last or saved.size_bytes <= 0 or not is_sha256(saved.sha256):
            raise PeerMisbehaved(f"job {self.key}: checkpoint {saved.number} has no valid number, size or digest")

    def offer_checkpoint(self, saved: Deployment.CheckpointSaved, fetch_until: int, max_bytes: int) -> None:
        """What the provider has archived. Raises PeerMisbehaved as `check_checkpoint`. max_bytes: larger ones are not
        fetched."""
        if not self.open:
            return
        self.check_checkpoint(saved)
        self.trigger(
            self.CheckpointOffered(
                number=saved.number,
                name=saved.name[:255],
                size_bytes=saved.size_bytes,
                sha256=saved.sha256,
                saved_at=saved.saved_at,
                fetch_until=fetch_until,
            )
        )
        if saved.size_bytes > max_bytes:
            reason = f"it has {saved.size_bytes / 2**20:.0f} MiB, more than job.checkpoint_max_mb allows"
            self.trigger(self.CheckpointLost(number=saved.number, reason=reason))

    def checkpoint_is_here(self, offered: Job.CheckpointOffered, name: str) -> bool:
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

    def provider_told(self) -> bool:
        """Whether that is news: the provider knows of our end, or never had the job."""
        if not self.provider_to_tell:
            return False
        self.trigger(self.ProviderTold())
        return True

    def telling_given_up(self, reason: str) -> bool:
        """Whether the provider was still to be told of our end."""
        if not self.provider_to_tell:
            return False
        self.trigger(self.TellingGivenUp(reason=reason))
        return True

    def provider_misbehaved(self, version: int, topic: str, reason: str) -> bool:
        """Whether it is recorded: the first few of an open job are. version, topic: of the record."""
        if not self.open or self.misbehaviours >= MISBEHAVIOURS_KEPT:
            return False
        self.trigger(self.ProviderMisbehaved(version=version, topic=topic[:TOPIC_KEPT], reason=reason))
        return True

    def provider_unreachable(self, reason: str) -> bool:
        if self.unreachable or not self.open:
            return False
        self.trigger(self.ProviderUnreachable(reason=reason))
        return True

    def provider_returned(self) -> bool:
        if not self.unreachable or not self.open:
            return False
        self.trigger(self.ProviderReturned())
        return True

    def request_termination(self, reason: str) -> bool:
        """Whether this is the first request. A job that was never submitted ends at once.
        Raises Conflict when the job is over."""
        if not self.open:
            raise Conflict(f"job {self.key} is over: it {self.state}")
        if self.termination is not None:
            return False
        self.trigger(self.TerminationRequested(reason=reason))
        if self.state in (JobState.AWAITING, JobState.FUNDING):
            self.fail(reason, Fault.REQUESTER)
        return True

    def fail(self, reason: str, fault: Fault, exit_code: int | None = None, duration_seconds: float = 0.0) -> None:
        self.trigger(
            self.Failed(
                reason=reason,
                fault=fault,
                exit_code=exit_code,
                duration_seconds=duration_seconds,
                refund=self.funded and not self.ran,
            )
        )

    def expire(self, reason: str) -> None:
        self.trigger(self.Expired(reason=reason))

    # --- what the events change -------------------------------------------------------------
    @applies(JobEvents.ServiceRequested)
    def _service_requested(self, event: JobEvents.ServiceRequested) -> None:
        self.request, self.provider = event.request, event.provider
        self.price, self.expires_at, self.payee = event.price, event.expires_at, event.payee
        self.resume = event.resume

    @applies(JobEvents.FundStatusReported)
    def _fund_status_reported(self, event: JobEvents.FundStatusReported) -> None:
        self.last_status = FundStatus(
            transaction_type=event.transaction_type,
            transaction_status=event.transaction_status,
            tx_hash=event.tx_hash,
        )
        if event.transaction_status == "success":
            self.tx_hash = event.tx_hash

    @applies(JobEvents.Submitted)
    def _submitted(self, _: JobEvents.Submitted) -> None:
        self.submitted = True

    @applies(JobEvents.DeploymentResponded)
    def _deployment_responded(self, event: JobEvents.DeploymentResponded) -> None:
        self._ran = self._ran or event.success

    @applies(JobEvents.ProviderReported)
    def _provider_reported(self, event: JobEvents.ProviderReported) -> None:
        self.provider_version = event.record.version
        self.provider_life.move(EVENT_TYPES.get(event.record.topic, Unknown))

    @applies(JobEvents.ProviderMisbehaved)
    def _provider_misbehaved(self, _: JobEvents.ProviderMisbehaved) -> None:
        self.misbehaviours += 1

    @applies(JobEvents.ProviderTold)
    def _provider_told(self, _: JobEvents.ProviderTold) -> None:
        self.telling_settled = True

    @applies(JobEvents.TellingGivenUp)
    def _telling_given_up(self, _: JobEvents.TellingGivenUp) -> None:
        self.telling_settled = True

    @applies(JobEvents.ProviderUnreachable)
    def _provider_unreachable(self, _: JobEvents.ProviderUnreachable) -> None:
        self.unreachable = True

    @applies(JobEvents.ProviderReturned)
    def _provider_returned(self, _: JobEvents.ProviderReturned) -> None:
        self.unreachable = False

    @applies(JobEvents.CheckpointOffered)
    def _checkpoint_offered(self, event: JobEvents.CheckpointOffered) -> None:
        self.checkpoint_offered = event

    @applies(JobEvents.CheckpointReceived)
    def _checkpoint_received(self, event: JobEvents.CheckpointReceived) -> None:
        self.checkpoint_received = event
        self.checkpoint_settled = max(self.checkpoint_settled, event.number)

    @applies(JobEvents.CheckpointLost)
    def _checkpoint_lost(self, event: JobEvents.CheckpointLost) -> None:
        self.checkpoint_settled = max(self.checkpoint_settled, event.number)

    @applies(JobEvents.TerminationRequested)
    def _termination_requested(self, event: JobEvents.TerminationRequested) -> None:
        self.termination = event.reason

    @applies(JobEvents.Completed)
    def _completed(self, event: JobEvents.Completed) -> None:
        self.outcome = outcome_of(event)

    @applies(JobEvents.Failed)
    def _failed(self, event: JobEvents.Failed) -> None:
        self.outcome, self.failure = outcome_of(event), event.reason


def _one_of(words: Sequence[str], text: str) -> str:
    return text if text in words else OTHER


def outcome_of(event: Event) -> Outcome | None:
    """What a job's event says of its end; None when it does not end a paid job."""
    match event:
        case Job.Completed():
            return Outcome(completed=True, duration_seconds=event.duration_seconds)
        case Job.Failed():
            return Outcome(provider_fault=event.fault.of_provider, duration_seconds=event.duration_seconds)
    return None
