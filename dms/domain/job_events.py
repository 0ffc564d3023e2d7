"""What can happen to a job, as the log keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct

from dms.domain.chain import SignedRecord
from dms.domain.checkpoint import ResumeFrom
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.paid_work import PaymentAccepted, PaymentPending, RewardClaim, RewardSettlement
from dms.domain.request import PERSONAL_FIELDS, ServiceRequest
from dms.domain.reward import Fault
from dms.domain.run_time import Instant
from dms.domain.sealing import ERASED, below


class Refusal(Struct, frozen=True, kw_only=True, gc=False):
    """A compute provider that can't take the job, and why."""

    peer_id: str
    reason: str


class JobEvents:
    """The names under which Job has them."""

    @register
    class ServiceRequested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.service_requested"
        VERSION: ClassVar[int] = 3
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged, 2: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {**below("request", PERSONAL_FIELDS), "payee": ERASED}
        request: ServiceRequest
        provider: str  # peer id of the chosen compute provider
        price: str  # NTX for the whole time, decimal text
        expires_at: int  # Unix time in microseconds: the end of the funding window
        refused: tuple[Refusal, ...] = ()  # a bounded sample
        refused_count: int = 0
        payee: str = ""  # the provider's payment address, as it advertised it
        resume: ResumeFrom | None = None  # the checkpoint that it goes on from
        attempts: int = 1  # how many times it may be tried on the one payment
        client: str = ""  # whose it is: the name of the token that it was asked for with; empty: this node's operator

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
    class FundingPending(PaymentPending, frozen=True, kw_only=True, gc=False):
        """The payment can't be told good or bad yet: here, or (once submitted) at the provider."""

        TOPIC: ClassVar[str] = "job.funding_pending"

    @register
    class FundingAccepted(PaymentAccepted, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.funding_accepted"

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
        at: Instant | None = None  # by this machine's clocks; None in what older versions wrote, as below

    @register
    class ProviderReported(Event, frozen=True, kw_only=True, gc=False):
        """The provider's own signed record of its deployment, kept as evidence."""

        TOPIC: ClassVar[str] = "job.provider_reported"
        record: SignedRecord

    @register
    class InputStarted(Event, frozen=True, kw_only=True, gc=False):
        """The provider fetches it, before it starts the container. number: from 1, as the request lists them. path:
        below /workspace."""

        TOPIC: ClassVar[str] = "job.input_started"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"path": ERASED}
        number: int
        path: str

    @register
    class InputDone(Event, frozen=True, kw_only=True, gc=False):
        """It is in the workspace. sha256: hex, of what was fetched. cached: the provider had it already."""

        TOPIC: ClassVar[str] = "job.input_done"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"path": ERASED}
        number: int
        path: str
        size_bytes: int
        sha256: str
        cached: bool = False

    @register
    class InputFailed(Event, frozen=True, kw_only=True, gc=False):
        """It can't be had; the end of the job follows."""

        TOPIC: ClassVar[str] = "job.input_failed"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"path": ERASED, "reason": ERASED}
        number: int
        path: str
        reason: str

    @register
    class DeploymentResponded(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.deployment_responded"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"content": ERASED}
        success: bool
        content: str  # the reason when it was refused, else empty: the log's address is made when shown
        started_at: int = 0  # the container, by the provider's clock, Unix time in microseconds
        at: Instant | None = None  # when we heard of it
        repeated: bool = False  # of an attempt, after one that was started before it

    @register
    class AttemptFailed(Event, frozen=True, kw_only=True, gc=False):
        """This attempt is over, the job is not: it is to be tried again."""

        TOPIC: ClassVar[str] = "job.attempt_failed"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        attempt: int  # from 1
        reason: str
        fault: Fault
        exit_code: int | None = None
        duration_seconds: float = 0.0

    @register
    class AttemptStarted(Event, frozen=True, kw_only=True, gc=False):
        """The job goes to this provider now, on the payment that there is. That the one before may still run is told
        to it by another reactor."""

        TOPIC: ClassVar[str] = "job.attempt_started"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"payee": ERASED}
        attempt: int  # from 2
        provider: str
        price: str  # NTX, as it was paid
        minutes: int  # that are left for it
        payee: str = ""
        resume: ResumeFrom | None = None
        lines_before: int = 0  # of output, by the attempts before it
        refused: tuple[Refusal, ...] = ()  # a bounded sample
        refused_count: int = 0
        at: Instant | None = None

    @register
    class ProviderUnreachable(Event, frozen=True, kw_only=True, gc=False):
        """Where it was looked for stands in the reason: a person's address, perhaps."""

        TOPIC: ClassVar[str] = "job.provider_unreachable"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        since: Instant | None = None

    @register
    class ProviderReturned(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.provider_returned"
        at: Instant | None = None

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
        attempt: int = 1

    @register
    class TellingGivenUp(Event, frozen=True, kw_only=True, gc=False):
        """The provider could not be told of the end."""

        TOPIC: ClassVar[str] = "job.telling_given_up"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        attempt: int = 1

    @register
    class LogSealed(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.log_sealed"
        lines: int
        sha256: str
        truncated: bool = False
        attempt: int = 1  # whose output it is

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
        ran_seconds: float = 0.0  # how much of the attempt's run it holds; 0 where that is not known

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
    class ResultsOffered(Event, frozen=True, kw_only=True, gc=False):
        """The provider has archived what the job leaves; it is to be fetched until `fetch_until`. skipped: what it left
        out, links and the like, or names that can't be kept."""

        TOPIC: ClassVar[str] = "job.results_offered"
        name: str
        size_bytes: int
        sha256: str
        saved_at: int  # by the provider's clock, Unix time in microseconds
        fetch_until: int  # by ours
        files: int = 0
        skipped: int = 0

    @register
    class ResultsReceived(Event, frozen=True, kw_only=True, gc=False):
        """They are here, whole, and what they were announced to be."""

        TOPIC: ClassVar[str] = "job.results_received"
        name: str  # of the file in `received_results`
        size_bytes: int
        sha256: str
        received_at: int  # Unix time in microseconds

    @register
    class ResultsLost(Event, frozen=True, kw_only=True, gc=False):
        """There are none to be had, at the provider or any more."""

        TOPIC: ClassVar[str] = "job.results_lost"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    @register
    class ResultsRemoved(Event, frozen=True, kw_only=True, gc=False):
        """They were here, and are no more. reason: "expired"."""

        TOPIC: ClassVar[str] = "job.results_removed"
        reason: str

    @register
    class TerminationRequested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.termination_requested"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        at: Instant | None = None

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
        refund: bool = False  # it was paid for and never ran: all of the price is owed back

    @register
    class Expired(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.expired"
        reason: str

    @register
    class RewardClaimed(RewardClaim, frozen=True, kw_only=True, gc=False):
        """Amounts in NTX, decimal text."""

        TOPIC: ClassVar[str] = "job.reward_claimed"

    @register
    class RewardSettled(RewardSettlement, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "job.reward_settled"
