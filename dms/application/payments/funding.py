"""A funding check with patience: what it can't tell yet is asked again, up to a bound that is in the events.

Used by both roles: the service provider before it submits, the compute provider before it accepts. The bound is a time
of the wall clock, for a restart to go on with; from the first look on it is held by a clock that takes no steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from dms.application.deadlines import Deadlines
from dms.application.ports.funding import FundingCheck, FundingState, FundingVerdict, PaymentClaim
from dms.domain.deployment import Fault
from dms.domain.paid_work import PaidWork
from dms.domain.pricing import outcome_hashes, terms
from dms.domain.request import ServiceRequest
from dms.domain.reward import amount
from dms.errors import Conflict, Unavailable

POLL_SECONDS = (0.5, 15.0)  # shortest and longest pause between two looks
LONGEST_REASON = 500
CHECK_AWAY = "the funding check can't be made now"


class Decision(Struct, frozen=True, kw_only=True):
    """until: of a pending one, Unix time in microseconds; pause_seconds: till the next look.
    fault: of a refused one, whose it was."""

    verdict: FundingVerdict
    until: int = 0
    pause_seconds: float = 0.0
    fault: Fault = Fault.REQUESTER


class PatientCheck:
    def __init__(self, check: FundingCheck, timeout_seconds: float, now: Callable[[], int]) -> None:
        """now: Unix time in microseconds."""
        self.name, self.carries, self.blockchain = check.name, check.carries, check.blockchain
        self._check, self._timeout_seconds = check, timeout_seconds
        self._deadlines = Deadlines(now, timeout_seconds)  # by job id

    async def decide(self, claim: PaymentClaim, until: int) -> Decision:
        """until: the end of the patience as recorded, 0 when this is the first look."""
        until = until or self._deadlines.begin(claim.job_id)
        self._deadlines.left_seconds(claim.job_id, until)  # it counts from now on, however long the look takes
        fault = Fault.REQUESTER
        try:
            verdict = await self._check.check(claim)
        except Unavailable as error:
            fault = Fault.PROVIDER
            verdict = FundingVerdict(state=FundingState.PENDING, reason=f"{CHECK_AWAY}: {error}")
        if verdict.state is FundingState.PENDING and (rest := self._deadlines.left_seconds(claim.job_id, until)) > 0:
            pending = FundingVerdict(state=FundingState.PENDING, reason=verdict.reason[:LONGEST_REASON])
            return Decision(verdict=pending, until=until, pause_seconds=self._pause(rest))
        self._deadlines.forget(claim.job_id)
        if verdict.state is not FundingState.PENDING:
            return Decision(verdict=verdict)
        waited = f"payment {claim.tx_hash[:80]} was not confirmed within {self._timeout_seconds:g} s"
        late = f"{waited}: {verdict.reason[:LONGEST_REASON]}"
        return Decision(verdict=FundingVerdict(state=FundingState.REFUSED, reason=late), fault=fault)

    def _pause(self, left: float) -> float:
        """Longer the longer it takes, so that a restart goes on at the same pace; with jitter."""
        waited = max(0.0, self._timeout_seconds - left)
        return min(left, POLL_SECONDS[1], POLL_SECONDS[0] + waited / 8) * random.uniform(0.8, 1.0)  # noqa: S311  jitter


def claim_of(paid: PaidWork, tx_hash: str, provider: str, service_provider: str) -> PaymentClaim:
    """The same on both sides. provider, service_provider: peer ids."""
    request = request_of(paid)
    return PaymentClaim(
        job_id=paid.deployment_id,
        tx_hash=tx_hash,
        price=paid.price,
        payee=paid.payee,
        blockchain=request.blockchain,
        payer=request.address_user,
        terms_hash=quote_hashes(paid, provider, service_provider)["metadata_hash"],
    )


def quote_hashes(paid: PaidWork, provider: str, service_provider: str) -> dict[str, str]:
    """The hashes that the quote was answered with; of a later attempt, those of its own terms."""
    return outcome_hashes(terms(paid.deployment_id, provider, service_provider, amount(paid.price), paid.minutes))


def request_of(paid: PaidWork) -> ServiceRequest:
    """Raises Conflict."""
    if paid.request is None:
        raise Conflict(f"job {paid.key} has no request")
    return paid.request
