"""What becomes of a job until it is submitted: its funding window ends, or its payment is checked."""

from __future__ import annotations

from collections.abc import Callable

from dms.application.deadlines import Deadlines
from dms.application.loops import said
from dms.application.payments.funding import PatientCheck, claim_of
from dms.application.payments.payments import Paying
from dms.application.ports.event_log import EventLog
from dms.application.ports.funding import FundingState, FundingVerdict
from dms.application.ports.signing import Signer
from dms.application.reactors import News, Reactor, still_due
from dms.domain.job import Job, JobState
from dms.domain.reward import Fault
from dms.domain.run_time import Instant


class ExpireUnfunded(Reactor[Job]):
    name = "funding windows"
    kind = Job

    def __init__(self, log: EventLog, now: Callable[[], int], window_seconds: float) -> None:
        """now: Unix time in microseconds."""
        self._log, self._window_seconds, self._windows = log, window_seconds, Deadlines(now, window_seconds)

    def due(self, aggregate: Job) -> bool:
        return aggregate.state is JobState.AWAITING

    async def react(self, aggregate: Job, news: News) -> None:
        left = self._windows.left_seconds(aggregate.key, aggregate.expires_at)
        if await news.rest(max(left, 0.0), lambda: still_due(self._log, self, aggregate.key)):
            job = self._log.load(Job, aggregate.key) or aggregate
            job.expire(f"not funded within {self._window_seconds:g} s")
            await self._log.save(job)
        self._windows.forget(aggregate.key)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        aggregate.fail(f"its funding window could not be held here: {said(error)}", Fault.REQUESTER)
        await self._log.save(aggregate)


class CheckFunding(Reactor[Job]):
    name = "funding of jobs"
    kind = Job

    def __init__(self, log: EventLog, signer: Signer, funding: PatientCheck, clock: Callable[[], Instant]) -> None:
        """clock: of this machine."""
        self._log, self._signer, self._funding, self._clock = log, signer, funding, clock

    def due(self, aggregate: Job) -> bool:
        return aggregate.state is JobState.FUNDING

    async def react(self, aggregate: Job, news: News) -> None:
        """One look; then the decision, or a pause until the next look."""
        claim = claim_of(aggregate, aggregate.tx_hash, aggregate.provider, self._signer.peer_id)
        decision = await self._funding.decide(claim, aggregate.funding_until)
        job = self._log.load(Job, aggregate.key)
        if job is None or not self.due(job):
            return
        if decision.verdict.state is FundingState.PENDING:
            job.wait_for_funding(decision.verdict.reason, decision.until)
            await self._log.save(job)
            await news.rest(decision.pause_seconds, lambda: still_due(self._log, self, aggregate.key))
        else:
            await self._conclude(job, decision.verdict)

    async def _conclude(self, job: Job, verdict: FundingVerdict) -> None:
        paying = Paying(self._log, job.tx_hash, job.key)
        refusal = verdict.reason if verdict.state is FundingState.REFUSED else paying.refusal
        if refusal:
            job.reject_funding(refusal)
        else:
            paying.use()
            job.accept_funding(self._funding.name, verdict.payer, verdict.units, verdict.block, self._clock())
        await self._log.save(job, paying.payment)

    async def give_up(self, aggregate: Job, error: Exception) -> None:
        aggregate.fail(f"the payment could not be checked here: {said(error)}", Fault.REQUESTER)
        await self._log.save(aggregate)
