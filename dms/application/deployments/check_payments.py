"""Looks for the payment of each deployment that was asked for, and decides it then.

The service provider's word for it is not enough: the provider looks at the chain itself."""

from __future__ import annotations

from collections.abc import Sequence

from dms.application.deployments.admission import Admission
from dms.application.device.engine import SOON_SECONDS, EngineWatch
from dms.application.loops import said
from dms.application.payments.funding import Decision, PatientCheck, claim_of, request_of
from dms.application.payments.payments import Paying
from dms.application.ports.event_log import EventLog
from dms.application.ports.funding import FundingState, FundingVerdict
from dms.application.ports.signing import Signer
from dms.application.reactors import News, Reactor, still_due
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.gpus import GpuReading


class CheckPayments(Reactor[Deployment]):
    name = "payments of deployments"
    kind = Deployment

    def __init__(
        self, log: EventLog, signer: Signer, admission: Admission, engine: EngineWatch, funding: PatientCheck | None
    ) -> None:
        """funding: None where the service provider's word is enough: what still waits is then decided at once."""
        self._log, self._signer, self._admission, self._engine = log, signer, admission, engine
        self._funding = funding

    def due(self, aggregate: Deployment) -> bool:
        return aggregate.state is DeploymentState.CHECKING

    async def react(self, aggregate: Deployment, news: News) -> None:
        """One look at the chain; then the decision, or a pause until the next look."""
        readings = await self._engine.look(gpus=request_of(aggregate).wants_gpu)
        found = await self._look_up(aggregate)
        if found.verdict.state is FundingState.ACCEPTED and self._engine.is_briefly_away:
            readings = await self._look_when_back(aggregate, news)
        deployment = self._log.load(Deployment, aggregate.key)
        if deployment is None or not self.due(deployment):
            return
        if found.verdict.state is FundingState.PENDING:
            deployment.wait_for_funding(found.verdict.reason, found.until)
            await self._log.save(deployment)
            await news.rest(found.pause_seconds, lambda: still_due(self._log, self, aggregate.key))
        elif found.verdict.state is FundingState.REFUSED:
            deployment.refuse(found.verdict.reason, found.fault)
            await self._log.save(deployment)
        else:
            await self._conclude(deployment, found.verdict, readings)

    async def _look_when_back(self, deployment: Deployment, news: News) -> Sequence[GpuReading]:
        """A job that is paid is not refused for an engine that went away at that very moment. The verdict is kept: the
        chain may not be asked again, or not answer, when its patience is over."""
        readings: Sequence[GpuReading] = ()
        while self._engine.is_briefly_away:
            if not await news.rest(SOON_SECONDS, lambda: still_due(self._log, self, deployment.key)):
                break
            readings = await self._engine.look(gpus=request_of(deployment).wants_gpu)
        return readings

    async def _look_up(self, deployment: Deployment) -> Decision:
        if self._funding is None:
            return Decision(verdict=FundingVerdict(state=FundingState.ACCEPTED))
        claim = claim_of(deployment, deployment.tx_hash, self._signer.peer_id, deployment.service_provider)
        return await self._funding.decide(claim, deployment.funding_until)

    async def _conclude(self, deployment: Deployment, verdict: FundingVerdict, readings: Sequence[GpuReading]) -> None:
        """The payment is good. It is this job's even when the job can't be taken any more: then it is owed back. But
        not while it pays for an earlier attempt that has not ended: that one earns it, and nothing is owed back."""
        paying = Paying(self._log, deployment.tx_hash, deployment.key, deployment.service_provider)
        if paying.can_be_used:
            if self._funding is not None:
                deployment.accept_funding(self._funding.name, verdict.payer, verdict.units, verdict.block)
            if deployment.funded:
                paying.use()
        holds = self._admission.decide(deployment, paying, readings)
        await self._log.save(deployment, paying.payment, *holds)

    async def give_up(self, aggregate: Deployment, error: Exception) -> None:
        aggregate.refuse(f"the provider could not check the payment: {said(error)}", Fault.PROVIDER)
        await self._log.save(aggregate)
