"""A job: one request to run a container, as its service provider sees it, from quote to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from msgspec import Struct

from dms.domain.aggregate import Aggregate, applies
from dms.domain.chain import SignedRecord
from dms.domain.checkpoint import ResumeFrom, is_sha256
from dms.domain.deployment import Deployment, Fault, reward_fields
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.request import PERSONAL_FIELDS, ServiceRequest
from dms.domain.reward import Outcome, Reward, reward
from dms.domain.sealing import ERASED, below
from dms.errors import Conflict, PeerMisbehaved


class JobState(StrEnum):
    NEW = "new"  # nothing recorded yet
    AWAITING = "awaiting"  # quoted; its funding is not reported yet
    FUNDING = "funding"  # reported as paid; the funding check has not answered yet
    SUBMITTED = "submitted"  # paid; the provider has not started the container yet
    RUNNING = "running"  # the container was started
    COMPLETED = "completed"  # exit code 0
    FAILED = "failed"  # anything else that ended it
    EXPIRED = "expired"  # never funded in time


NEXT = {  # the whole state machine; a test walks this table
    JobState.NEW: {JobState.AWAITING},
    JobState.AWAITING: {JobState.FUNDING, JobState.FAILED, JobState.EXPIRED},
    JobState.FUNDING: {JobState.SUBMITTED, JobState.FAILED},
    JobState.SUBMITTED: {JobState.RUNNING, JobState.FAILED},
    JobState.RUNNING: {JobState.COMPLETED, JobState.FAILED},
    JobState.COMPLETED: set[JobState](),
    JobState.FAILED: set[JobState](),
    JobState.EXPIRED: set[JobState](),
}
OPEN = {state for state, following in NEXT.items() if following and state is not JobState.NEW}


class Refusal(Struct, frozen=True, kw_only=True, gc=False):
    """A compute provider that can't take the job, and why."""

    peer_id: str
    reason: str


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
LAST_SIGNAL = 64  # of Linux: a greater exit code is just what the program said


class FundStatus(Struct, frozen=True, kw_only=True):
    """What a client reports of its payment (`send-status`)."""

    transaction_type: str
    transaction_status: str
    tx_hash: str


ENDS_OF_A_DEPLOYMENT = frozenset(
    event.TOPIC for event in (Deployment.Rejected, Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped)
)


class Job(Aggregate):
    KIND: ClassVar[str] = "job"

    @register
    class ServiceRequested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.service_requested"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {**below("request", PERSONAL_FIELDS), "payee": ERASED}
        request: ServiceRequest
        provider: str  # peer id of the chosen compute provider
        price: str  # NTX for the whole time, decimal text
        expires_at: int  # Unix time in microseconds: the end of the funding window
        refused: tuple[Refusal, ...] = ()  # a bounded sample
        refused_count: int = 0
        payee: str = ""  # the provider's payment address, as it advertised it
        resume: ResumeFrom | None = None  # the checkpoint that it goes on from

    @register
    class FundStatusReported(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.fund_status_reported"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED}
        transaction_type: str
        transaction_status: str
        tx_hash: str

    @register
    class FundingPending(Event, frozen=True, kw_only=True, gc=False):
        """The payment can't be told good or bad yet: here, or (once submitted) at the provider."""

        TOPIC: ClassVar[str] = "job.funding_pending"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        until: int  # Unix time in microseconds: the end of the checker's patience

    @register
    class FundingAccepted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.funding_accepted"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED, "payer": ERASED}
        tx_hash: str
        check: str  # the name of the funding check that accepted it
        payer: str = ""  # the address that paid, as the chain has it
        units: str = ""  # what arrived, in whole smallest units
        block: int = 0

    @register
    class FundingRejected(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.funding_rejected"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED, "reason": ERASED}
        tx_hash: str
        reason: str

    @register
    class Submitted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.submitted"
        provider: str

    @register
    class ProviderReported(Event, frozen=True, kw_only=True, gc=False):
        """The provider's own signed record of its deployment, kept as evidence."""

        TOPIC: ClassVar[str] = "job.provider_reported"
        record: SignedRecord

    @register
    class DeploymentResponded(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.deployment_responded"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"content": ERASED}
        success: bool
        content: str  # the reason when it was refused, else empty: the log's address is made when shown

    @register
    class ProviderUnreachable(Event, frozen=True, kw_only=True, gc=False):
        """Where it was looked for stands in the reason: a person's address, perhaps."""

        TOPIC: ClassVar[str] = "job.provider_unreachable"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    @register
    class ProviderReturned(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.provider_returned"

    @register
    class ProviderMisbehaved(Event, frozen=True, kw_only=True, gc=False):
        """A record of the provider's that can't follow what came before: which, and what is wrong with it."""

        TOPIC: ClassVar[str] = "job.provider_misbehaved"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        version: int
        topic: str
        reason: str

    @register
    class ProviderTold(Event, frozen=True, kw_only=True, gc=False):
        """The provider knows of an end that was decided without it, or says that it never had the job."""

        TOPIC: ClassVar[str] = "job.provider_told"

    @register
    class TellingGivenUp(Event, frozen=True, kw_only=True, gc=False):
        """The provider could not be told of the end."""

        TOPIC: ClassVar[str] = "job.telling_given_up"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    @register
    class LogSealed(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.log_sealed"
        lines: int
        sha256: str
        truncated: bool = False

    @register
    class CheckpointOffered(Event, frozen=True, kw_only=True, gc=False):
        """The provider has archived the job's workspace; it is to be fetched until `fetch_until`."""

        TOPIC: ClassVar[str] = "job.checkpoint_offered"
        number: int
        name: str
        size_bytes: int
        sha256: str
        saved_at: int  # by the provider's clock, Unix time in microseconds
        fetch_until: int  # by ours

    @register
    class CheckpointReceived(Event, frozen=True, kw_only=True, gc=False):
        """It is here, whole, and what it was announced to be."""

        TOPIC: ClassVar[str] = "job.checkpoint_received"
        number: int
        name: str  # of the file in `received_checkpoints`
        size_bytes: int
        sha256: str

    @register
    class CheckpointLost(Event, frozen=True, kw_only=True, gc=False):
        """It is not fetched any more; an older one that was received stays."""

        TOPIC: ClassVar[str] = "job.checkpoint_lost"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        number: int
        reason: str

    @register
    class TerminationRequested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.termination_requested"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    @register
    class Completed(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.completed"
        duration_seconds: float = 0.0

    @register
    class Failed(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.failed"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        fault: Fault
        exit_code: int | None = None
        duration_seconds: float = 0.0

    @register
    class Expired(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.expired"
        reason: str

    @register
    class RewardClaimed(Event, frozen=True, kw_only=True, gc=False):
        """Amounts in NTX, decimal text."""

        TOPIC: ClassVar[str] = "job.reward_claimed"
        reward_type: str
        price: str
        to_provider: str
        to_requester: str

    @register
    class RewardSettled(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.reward_settled"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED}
        transaction_type: str  # "done" as reported; "withdrawn", "refunded", "distributed" as the chain has it
        tx_hash: str = ""  # of the transaction that settled it, where that is known

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.state = JobState.NEW
        self.request: ServiceRequest | None = None
        self.provider = ""
        self.price = ""
        self.payee = ""
        self.payer = ""
        self.block = 0
        self.funding_until = 0
        self.funding_reason = ""
        self.outcome: Outcome | None = None
        self.claimed = False
        self.settled = ""
        self.expires_at = 0
        self.tx_hash = ""
        self.last_status: FundStatus | None = None
        self.provider_version = 0  # of the newest record of the provider's deployment
        self.provider_ended = False  # by its own word
        self.submitted = False
        self.telling_settled = False
        self.misbehaviours = 0
        self.unreachable = False
        self.termination: str | None = None
        self.resume: ResumeFrom | None = None
        self.checkpoint_offered: Job.CheckpointOffered | None = None
        self.checkpoint_received: Job.CheckpointReceived | None = None
        self.checkpoint_settled = 0  # the newest number that was received or lost

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def correlation_id(self) -> str:
        return self.key

    @property
    def minutes(self) -> int:
        """Asked and paid for."""
        return self.request.constraints.time if self.request else 0

    @property
    def reward(self) -> Reward | None:
        """Who gets what of the price; None until the job is over."""
        return None if self.outcome is None else reward(self.price, self.minutes, self.outcome)

    @property
    def provider_to_tell(self) -> bool:
        """Whether the job ended by our own decision, and its provider may still run it."""
        return self.submitted and not (self.open or self.provider_ended or self.telling_settled)

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
        self._move(JobState.AWAITING)
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

    def wait_for_funding(self, reason: str, until: int) -> bool:
        """Whether that is news."""
        if self.state is not JobState.FUNDING or (reason, until) == (self.funding_reason, self.funding_until):
            return False
        self.trigger(self.FundingPending(reason=reason, until=until))
        return True

    def accept_funding(self, check: str, payer: str = "", units: str = "", block: int = 0) -> None:
        self._move(JobState.SUBMITTED)
        self.trigger(self.FundingAccepted(tx_hash=self.tx_hash, check=check, payer=payer, units=units, block=block))
        self.trigger(self.Submitted(provider=self.provider))

    def reject_funding(self, reason: str) -> None:
        self._move(JobState.FAILED)
        self.trigger(self.FundingRejected(tx_hash=self.tx_hash, reason=reason))
        self.fail(reason, Fault.REQUESTER)

    def report_from_provider(self, record: SignedRecord, event: Event) -> None:
        """Takes one verified record of the provider's deployment and draws the consequence. event: what it says.
        One that is known already is left alone. Raises PeerMisbehaved on a gap or a foreign stream."""
        if record.version <= self.provider_version or not self.open:
            return
        if record.stream != f"{Deployment.KIND}-{self.key}" or record.version != self.provider_version + 1:
            raise PeerMisbehaved(
                f"job {self.key}: expected version {self.provider_version + 1} of its deployment, "
                f"got version {record.version} of {record.stream}"
            )
        self.trigger(self.ProviderReported(record=record))
        self._follow(event)

    def offer_checkpoint(self, saved: Deployment.CheckpointSaved, fetch_until: int, max_bytes: int) -> None:
        """What the provider says that it has archived. Raises PeerMisbehaved when that makes no sense.
        max_bytes: larger ones are not fetched."""
        last = self.checkpoint_offered.number if self.checkpoint_offered else 0
        if saved.number <= last or saved.size_bytes <= 0 or not is_sha256(saved.sha256):
            raise PeerMisbehaved(f"job {self.key}: checkpoint {saved.number} has no valid number, size or digest")
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
        self._move(JobState.FAILED)
        self.trigger(self.Failed(reason=reason, fault=fault, exit_code=exit_code, duration_seconds=duration_seconds))

    def expire(self, reason: str) -> None:
        self._move(JobState.EXPIRED)
        self.trigger(self.Expired(reason=reason))

    def claim_reward(self) -> Reward:
        """The first claim is recorded, a repeat gets the same answer. Raises Conflict while the job runs."""
        found = self.reward
        if found is None:
            raise Conflict("the job is still running")
        if not self.claimed:
            self.trigger(self.RewardClaimed(**reward_fields(found)))
        return found

    def settle_reward(self, transaction_type: str, tx_hash: str = "") -> bool:
        """Whether that is news. Raises Conflict while the job runs."""
        if self.outcome is None:
            raise Conflict("the job is still running")
        if self.settled:
            return False
        self.trigger(self.RewardSettled(transaction_type=transaction_type, tx_hash=tx_hash))
        return True

    def _move(self, to: JobState) -> None:
        if to not in NEXT[self.state]:
            raise Conflict(f"job {self.key}: {self.state} can't become {to}")

    # --- what the provider's events mean for the job ------------------------------------------
    def _follow(self, event: Event) -> None:
        match event:
            case Deployment.FundingPending():
                reason = f"the provider checks the payment: {event.reason}"
                self.trigger(self.FundingPending(reason=reason, until=event.until))
            case Deployment.Rejected():
                self.trigger(self.DeploymentResponded(success=False, content=event.reason))
                self.fail(event.reason, event.fault)
            case Deployment.ContainerStarted():
                self._respond()
            case Deployment.LogSealed():
                self.trigger(self.LogSealed(lines=event.lines, sha256=event.sha256, truncated=event.truncated))
            case Deployment.ContainerExited():
                self._respond()
                self._end(event)
            case Deployment.Failed():
                self.fail(event.reason, event.fault, event.exit_code, event.duration_seconds)
            case Deployment.Stopped():
                self.fail(event.reason, event.fault, event.exit_code, event.duration_seconds)

    def _respond(self) -> None:
        if self.state is JobState.SUBMITTED:
            self.trigger(self.DeploymentResponded(success=True, content=""))

    def _end(self, event: Deployment.ContainerExited) -> None:
        if event.exit_code == 0 and not event.oom_killed:
            self.trigger(self.Completed(duration_seconds=event.duration_seconds))
            return
        self.fail(exit_reason(event), Fault.JOB, event.exit_code, event.duration_seconds)

    # --- what the events change -------------------------------------------------------------
    @applies(ServiceRequested)
    def _service_requested(self, event: ServiceRequested) -> None:
        self.state = JobState.AWAITING
        self.request, self.provider = event.request, event.provider
        self.price, self.expires_at, self.payee = event.price, event.expires_at, event.payee
        self.resume = event.resume

    @applies(FundStatusReported)
    def _fund_status_reported(self, event: FundStatusReported) -> None:
        self.last_status = FundStatus(
            transaction_type=event.transaction_type,
            transaction_status=event.transaction_status,
            tx_hash=event.tx_hash,
        )
        if event.transaction_status == "success":
            self.state = JobState.FUNDING
            self.tx_hash = event.tx_hash

    @applies(FundingPending)
    def _funding_pending(self, event: FundingPending) -> None:
        self.funding_reason, self.funding_until = event.reason, event.until

    @applies(FundingAccepted)
    def _funding_accepted(self, event: FundingAccepted) -> None:
        self.payer, self.block = event.payer, event.block

    @applies(Submitted)
    def _submitted(self, _: Submitted) -> None:
        self.state = JobState.SUBMITTED
        self.submitted = True

    @applies(ProviderReported)
    def _provider_reported(self, event: ProviderReported) -> None:
        self.provider_version = event.record.version
        self.provider_ended = self.provider_ended or event.record.topic in ENDS_OF_A_DEPLOYMENT

    @applies(ProviderMisbehaved)
    def _provider_misbehaved(self, _: ProviderMisbehaved) -> None:
        self.misbehaviours += 1

    @applies(ProviderTold)
    def _provider_told(self, _: ProviderTold) -> None:
        self.telling_settled = True

    @applies(TellingGivenUp)
    def _telling_given_up(self, _: TellingGivenUp) -> None:
        self.telling_settled = True

    @applies(DeploymentResponded)
    def _deployment_responded(self, event: DeploymentResponded) -> None:
        if event.success:
            self.state = JobState.RUNNING

    @applies(ProviderUnreachable)
    def _provider_unreachable(self, _: ProviderUnreachable) -> None:
        self.unreachable = True

    @applies(ProviderReturned)
    def _provider_returned(self, _: ProviderReturned) -> None:
        self.unreachable = False

    @applies(CheckpointOffered)
    def _checkpoint_offered(self, event: CheckpointOffered) -> None:
        self.checkpoint_offered = event

    @applies(CheckpointReceived)
    def _checkpoint_received(self, event: CheckpointReceived) -> None:
        self.checkpoint_received = event
        self.checkpoint_settled = max(self.checkpoint_settled, event.number)

    @applies(CheckpointLost)
    def _checkpoint_lost(self, event: CheckpointLost) -> None:
        self.checkpoint_settled = max(self.checkpoint_settled, event.number)

    @applies(TerminationRequested)
    def _termination_requested(self, event: TerminationRequested) -> None:
        self.termination = event.reason

    @applies(Completed)
    def _completed(self, event: Completed) -> None:
        self.state, self.outcome = JobState.COMPLETED, outcome_of(event)

    @applies(Failed)
    def _failed(self, event: Failed) -> None:
        self.state, self.outcome = JobState.FAILED, outcome_of(event)

    @applies(Expired)
    def _expired(self, _: Expired) -> None:
        self.state = JobState.EXPIRED

    @applies(RewardClaimed)
    def _reward_claimed(self, _: RewardClaimed) -> None:
        self.claimed = True

    @applies(RewardSettled)
    def _reward_settled(self, event: RewardSettled) -> None:
        self.settled = event.transaction_type


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


def exit_reason(event: Deployment.ContainerExited) -> str:
    """Why the container counts as failed, for its owner; begins as the original's text does."""
    if event.oom_killed:
        return f"finished with errors: out of memory, killed by the memory limit (exit code {event.exit_code})"
    if 0 < event.exit_code - 128 <= LAST_SIGNAL:
        return f"finished with errors: exit code {event.exit_code} (killed by signal {event.exit_code - 128})"
    return f"finished with errors: exit code {event.exit_code}"
