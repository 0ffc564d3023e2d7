"""The compute provider's side: what is decided about deployments, for peers and for the owner of this machine.

Each command loads, decides, saves and answers. What follows from it (the container, the look for a payment, what is
told to peers) is done by the reactors, which the log wakes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dms.application.cause import caused_by
from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper, DeleteCheckpoints
from dms.application.deployments.admission import Admission
from dms.application.deployments.check_payments import CheckPayments
from dms.application.deployments.deployment_feed import DeploymentFeed
from dms.application.deployments.deployment_index import DeploymentIndex
from dms.application.deployments.endings import Endings
from dms.application.deployments.furnishing import Furnishing
from dms.application.deployments.holds import ExpireHolds, Holds
from dms.application.deployments.leftovers import Leftovers, RemoveContainers
from dms.application.deployments.ownership import check_free_for, check_owner
from dms.application.deployments.preflights import Preflights
from dms.application.deployments.run_containers import RunContainers
from dms.application.deployments.strangers import Refusal, Strangers
from dms.application.deployments.supervision import Supervision
from dms.application.deployments.usage import UsageWatch
from dms.application.device.device import DeviceService
from dms.application.device.engine import EngineWatch
from dms.application.device.gpus import GpuWatch, LookAtGpus
from dms.application.device.network import NetworkWatch
from dms.application.device.refusals import Door, Refusals
from dms.application.device.sandbox import SandboxWatch
from dms.application.inputs.input_keeper import InputKeeper
from dms.application.loops import Loops
from dms.application.network.acquaintances import Acquaintances
from dms.application.network.budgets import DEPLOYMENTS, EVENT_BYTES, Budgets
from dms.application.network.messages import (
    DEPLOYMENT_REQUEST,
    DeploymentAnswer,
    DeploymentRequest,
    Terminate,
    TerminateAnswer,
    decode_request,
    encode,
)
from dms.application.payments.funding import PatientCheck
from dms.application.payments.payments import Paying
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Executor
from dms.application.ports.outputs import OutputStore
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.application.reactors import Reactor
from dms.application.results.results_keeper import DeleteResults, ResultsKeeper
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.event import new_id
from dms.domain.gpus import GpuReading
from dms.domain.hold import Hold
from dms.domain.run_time import Instant
from dms.domain.stranger_limits import NO_LIMITS, StrangerLimits
from dms.errors import Conflict, ExecutorUnavailable, NotFound, Unavailable

log = logging.getLogger(__name__)

UNCONFINED = "the provider has no container engine to confine a peer's job"


class ComputeProvider:
    """reactors: do what follows from the deployments' events, started once for the daemon (see `Reactors`).
    leftovers: what jobs that are over left on this machine. preparing: jobs that have no container yet."""

    def __init__(
        self,
        log: EventLog,
        device: DeviceService,
        executor: Executor,
        outputs: OutputStore,
        signer: Signer,
        checkpoints: CheckpointKeeper,
        inputs: InputKeeper,
        results: ResultsKeeper,
        clock: Callable[[], Instant],
        refusals: Refusals,
        budgets: Budgets,
        acquaintances: Acquaintances,
        *,
        confined: bool,
        run_unconfined_for_peers: bool = False,
        funding: PatientCheck | None = None,
        strangers: StrangerLimits = NO_LIMITS,
        loops: Loops | None = None,
    ) -> None:
        """confined: whether the executor isolates a stranger's job; one that does not runs jobs of
        peers only when the operator says so. clock: of this machine. funding: our own look at
        each payment, since the service provider's word for it is not enough; None: it is.
        strangers: what they get."""
        self._log, self._device, self._funding, self._door = log, device, funding, Door(device, refusals)
        self._checkpoints, self._results, self._budgets = checkpoints, results, budgets
        loops, self._furnishing = loops or Loops(), Furnishing(checkpoints, inputs)
        self._index = DeploymentIndex(log, device.reservations)
        self._holds = Holds(log, device, lambda: clock().wall_us, budgets)
        limited = Strangers(device, self._index, acquaintances.is_trusted, strangers, looks_up_payments=bool(funding))
        self._admission = Admission(
            device, executor, signer, self._furnishing, self._index, self._holds, refusals, limited,
            funding.blockchain if funding else "",
        )  # fmt: skip
        self._feed = DeploymentFeed(log, outputs, signer)
        self.leftovers = Leftovers(log, executor, self._furnishing, device.reservations)
        unfit = "" if confined or run_unconfined_for_peers else UNCONFINED
        self._engine = EngineWatch(executor, device, self.leftovers.sweep, loops, unfit)
        self.sandbox = SandboxWatch(log, executor, device, self._engine.ping, loops)
        self._engine.on_return(self.sandbox.owe_trial)
        self.preflights = Preflights(
            log, device, executor, self._engine, self._admission, self._holds, refusals, budgets
        )
        self._gpus, self._network = GpuWatch(device, loops), NetworkWatch(log, executor, device, loops)
        endings = Endings(log, outputs, checkpoints, results)
        self.usage = UsageWatch(executor, device.usage, device.read_gpus, clock, loops)
        supervision = Supervision(log, executor, outputs, checkpoints, endings, clock, self.usage, loops)
        self.reactors: Sequence[Reactor[Any]] = (
            CheckPayments(log, signer, self._admission, self._engine, funding),
            RunContainers(
                log, executor, device, self._network, self._furnishing, supervision, endings, self._admission, clock
            ),
            RemoveContainers(self.leftovers, self._engine),
            DeleteCheckpoints(checkpoints),
            DeleteResults(results),
            LookAtGpus(device),
            ExpireHolds(log, lambda: clock().wall_us),
        )

    @property
    def preparing(self) -> bool:
        """Whether a deployment has no container yet."""
        return bool(self._index.preparing)

    def serve(self, network: PeerNetwork) -> None:
        network.serve_request(DEPLOYMENT_REQUEST, self._on_request)
        self.preflights.serve(network)
        self._feed.serve(network)
        self._checkpoints.serve(network)
        self._results.serve(network)

    def take_up(self, open_jobs: Iterable[str], holds: Iterable[str] = ()) -> None:
        """What they hold is not given to others; before any peer is answered. open_jobs: the deployments that had not
        ended when the log was last written; holds: the jobs for which a place was kept then."""
        self._index.take_up(open_jobs)
        self._holds.take_up(holds)

    async def start(self) -> None:
        """Watches this machine, and takes away what is left of jobs that are over."""
        self.usage.start()
        await self._engine.start()
        self._gpus.start()
        await self._network.start()
        await self.sandbox.start()
        try:
            if await self.leftovers.sweep(checks=True):
                self._engine.owe_sweep()
        except ExecutorUnavailable as error:
            self._engine.owe_sweep()
            log.warning("leftover containers could not be looked for: %s", error)
        await self._furnishing.tidy()
        self._checkpoints.start()
        self._results.start()

    async def close(self) -> None:
        """Containers go on running; the next start takes them up again."""
        await self.usage.close()
        await self._engine.close()
        await self._gpus.close()
        await self._network.close()
        await self.sandbox.close()
        await self._checkpoints.close()
        await self._results.close()

    def closed(self) -> Sequence[Refusal]:
        """Why no job at all is taken just now; empty while jobs are taken."""
        return self._admission.of_all()

    # --- commands ----------------------------------------------------------------------------------
    async def request(self, peer_id: str, message: DeploymentRequest) -> DeploymentAnswer:
        """Raises Forbidden of a denied peer, and when the job id is another's; Conflict when a stranger's job is
        refused that it was never told to be possible; Unavailable when the peer asks for more than its budget, and
        while the engine is briefly away for a job whose place is held, which is to be asked for again: of that nothing
        is kept. A repeat of what is kept gets the same answer."""
        readings: Sequence[GpuReading] = ()
        if self._log.load(Deployment, message.job_id) is None:
            self._door.check(peer_id, "peer")
            self._budgets.check(DEPLOYMENTS, peer_id, len(encode(message)) + EVENT_BYTES)
            readings = await self._engine.look(gpus=message.request.wants_gpu)
            if self._engine.is_briefly_away and self._holds.of(message.job_id, peer_id) is not None:
                raise Unavailable("the provider's container engine is away just now; the job's place is kept")
        deployment = self._log.load(Deployment, message.job_id)  # a repeat may have come meanwhile
        if deployment is not None:
            check_owner(deployment, peer_id)
            await self._log.save(deployment)
            return _answer(deployment)
        check_free_for(self._log, message.job_id, peer_id)
        deployment = Deployment(message.job_id)
        deployment.ask(peer_id, message.request, message.price, self._device.state.payment_address, message.resume)
        paying = Paying(self._log, deployment.tx_hash, deployment.key, deployment.service_provider)
        refusal = self._refusal(deployment, paying, message.channel, readings)
        if refusal is not None and self._would_occupy(deployment):
            self._admission.refuse(deployment, refusal)
            raise Conflict(refusal.reason)
        self._log.adopt_seal_key(message.job_id, bytes.fromhex(message.seal_key))
        holds: Sequence[Hold] = ()
        if refusal is not None:
            self._admission.refuse(deployment, refusal)
            holds = self._holds.taken(deployment.key, peer_id)
        elif self._funding is None:
            holds = self._admission.decide(deployment, paying, readings)
        await self._log.save(deployment, paying.payment, *holds)
        self.preflights.forget_yes(deployment.key, peer_id)
        return _answer(deployment)

    def _refusal(
        self, deployment: Deployment, paying: Paying, channel: str, readings: Sequence[GpuReading]
    ) -> Refusal | None:
        """Why it is refused at once: what is decided behind the look for its payment is left to that."""
        if refusal := self._admission.of_channel(channel):
            return refusal
        if self._funding:
            return self._admission.refusal(deployment, paying)
        return self._admission.objection(deployment, paying, readings)

    def _would_occupy(self, refused: Deployment) -> bool:
        """Whether the id may be one that a stranger only heard of: recorded, it would be shut to the peer whose job it
        is. What came of our own yes is recorded: it may have paid for that."""
        peer_id = refused.service_provider
        return not self._budgets.is_known(peer_id) and not self.preflights.has_yes(refused.key, peer_id)

    async def stop(self, job_id: str, by: str, reason: str, fault: Fault, peer_id: str = "") -> bool:
        """Whether this was the first request to stop it. Raises NotFound; Forbidden when a peer
        asks for a deployment that is not its own."""
        deployment = self._log.load(Deployment, job_id)
        if deployment is None:
            raise NotFound(f"no deployment of job {job_id} here")
        if peer_id:
            check_owner(deployment, peer_id)
        first = deployment.request_stop(by, reason, fault)
        await self._log.save(deployment)
        return first

    # --- what peers ask ------------------------------------------------------------------------------
    async def _on_request(self, peer_id: str, body: bytes) -> bytes:
        message = decode_request(body, DeploymentRequest)
        with caused_by(new_id(), message.traceparent):
            return encode(await self.request(peer_id, message))

    async def on_terminate(self, peer_id: str, body: bytes) -> bytes:
        """A message of the control protocol."""
        message = decode_request(body, Terminate)
        fault = Fault.NETWORK if message.revoked else Fault.REQUESTER
        with caused_by(new_id()):
            first = await self.stop(message.job_id, "service provider", message.reason, fault, peer_id=peer_id)
        return encode(TerminateAnswer(stopping=first))


def _answer(deployment: Deployment) -> DeploymentAnswer:
    if deployment.state is DeploymentState.CHECKING:
        return DeploymentAnswer(accepted=False, pending=True, reason="the payment is being checked")
    return DeploymentAnswer(accepted=not deployment.rejection, reason=deployment.rejection)
