"""A job: one request to run a container, as its service provider sees it, from quote to end."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from dms.domain.aggregate import applies
from dms.domain.attempt import Attempt
from dms.domain.checkpoint import ResumeFrom
from dms.domain.job_attempts import MISBEHAVIOURS_KEPT, AttemptedJob, outcome_of
from dms.domain.job_events import JobEvents, Refusal
from dms.domain.job_rules import JobState
from dms.domain.request import ServiceRequest
from dms.domain.reward import Fault
from dms.domain.run_time import Instant
from dms.errors import Conflict

__all__ = ["MISBEHAVIOURS_KEPT", "FundStatus", "Job", "JobState", "Refusal", "outcome_of"]

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


class FundStatus(Struct, frozen=True, kw_only=True):
    """What a client reports of its payment (`send-status`)."""

    transaction_type: str
    transaction_status: str
    tx_hash: str


class Job(AttemptedJob):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.expires_at = 0
        self.tx_hash = ""
        self.stop_since: Instant | None = None  # since when it is to stop
        self.last_status: FundStatus | None = None
        self.client = ""  # whose it is; empty: this node's operator

    @property
    def checks_funding(self) -> bool:
        return self.state is JobState.FUNDING

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
        attempts: int = 1,
        client: str = "",
    ) -> None:
        """attempts: how many times it may be tried on the one payment. client: see ServiceRequested."""
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
                attempts=attempts,
                client=client,
            )
        )

    def report_fund_status(self, status: FundStatus) -> bool:
        """`pending` is recorded, `success` goes on to the check, anything else fails the job.
        Answers False, and does nothing, when this very report came before.
        Raises Conflict when another payment was, or the job is over."""
        if self.state is not JobState.AWAITING:
            if self.tx_hash and self.tx_hash == status.tx_hash:
                return False
            unused = "; the payment is not used and can pay for a new request" if self.state is JobState.EXPIRED else ""
            raise Conflict(f"job {self.key} does not await funding: it is {self.state}{unused}")
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

    def accept_funding(
        self, check: str, payer: str = "", units: str = "", block: int = 0, at: Instant | None = None
    ) -> None:
        self.trigger(
            self.FundingAccepted(tx_hash=self.tx_hash, check=check, payer=payer, units=units, block=block),
            self.Submitted(provider=self.provider, at=at),
        )

    def reject_funding(self, reason: str) -> None:
        self.trigger(
            self.FundingRejected(tx_hash=self.tx_hash, reason=reason),
            self.Failed(reason=reason, fault=Fault.REQUESTER),
        )

    def request_termination(self, reason: str, at: Instant | None = None) -> bool:
        """Whether this is the first request. A job that no provider has ends at once.
        Raises Conflict when the job is over."""
        if not self.open:
            raise Conflict(f"job {self.key} is over: it {self.state}")
        if self.termination is not None:
            return False
        self.trigger(self.TerminationRequested(reason=reason, at=at))
        if self.state in (JobState.AWAITING, JobState.FUNDING, JobState.RETRYING):
            self.fail(reason, Fault.REQUESTER)
        return True

    def expire(self, reason: str) -> None:
        self.trigger(self.Expired(reason=reason))

    # --- what the events change -------------------------------------------------------------
    @applies(JobEvents.ServiceRequested)
    def _service_requested(self, event: JobEvents.ServiceRequested) -> None:
        self.request, self.expires_at, self.max_attempts = event.request, event.expires_at, event.attempts
        self.price, self.payee, self.resume = event.price, event.payee, event.resume
        self.minutes_left, self.client = event.request.constraints.time, event.client
        self.attempts = [Attempt(self.key, 1, event.provider, self.minutes_left, event.resume)]

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
    def _submitted(self, event: JobEvents.Submitted) -> None:
        self.attempt.submitted = True
        self.attempt.give(event.at)

    @applies(JobEvents.TerminationRequested)
    def _termination_requested(self, event: JobEvents.TerminationRequested) -> None:
        self.termination, self.stop_since = event.reason, event.at


def _one_of(words: Sequence[str], text: str) -> str:
    return text if text in words else OTHER
