"""A deployment: the execution of one job on this compute provider. Its key is the job's id."""

from __future__ import annotations

from typing import ClassVar

from dms.domain.aggregate import applies
from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment_events import DeploymentEvents
from dms.domain.deployment_inputs import DeploymentInputs
from dms.domain.deployment_results import DeploymentResults
from dms.domain.deployment_rules import DEPLOYMENT_RULES, DeploymentState
from dms.domain.event import Event
from dms.domain.network import Network
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources
from dms.domain.reward import Fault, Outcome
from dms.domain.rules import Rules
from dms.errors import Conflict

__all__ = ["Deployment", "DeploymentState", "Fault", "outcome_of"]

MICROSECONDS = 1_000_000


class Deployment(DeploymentResults, DeploymentInputs):
    KIND: ClassVar[str] = "deployment"
    RULES: ClassVar[Rules[DeploymentState]] = DEPLOYMENT_RULES
    PENDING, CLAIMED, SETTLED = (
        DeploymentEvents.FundingPending,
        DeploymentEvents.RewardClaimed,
        DeploymentEvents.RewardSettled,
    )

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.service_provider = ""
        self.reserved = Resources()
        self.gpu_uuids: tuple[str, ...] = ()
        self.gpus_shared = False
        self.network = Network.NONE
        self.for_stranger = False
        self.digest = self.container_id = ""
        self.stops_at = 0
        self.boot_id = ""
        self.started_boot_us = 0
        self.stop: Deployment.StopRequested | None = None
        self.rejection = ""
        self.fault: Fault | None = None  # whose its end was
        self.restored = False
        self.checkpoint: Deployment.CheckpointSaved | None = None
        self.checkpoint_trouble = ""  # why the newest could not be made
        self.delivered = 0  # the number of the newest that the service provider has
        self.deleted = 0  # the number of the newest whose archive is no longer here

    @property
    def state(self) -> DeploymentState:
        state: DeploymentState = self.life.state
        return state

    @property
    def ended(self) -> bool:
        return self.state is DeploymentState.ENDED

    @property
    def ran(self) -> bool:
        """Whether its container was started: without that nothing is earned."""
        return self.stops_at > 0

    @property
    def may_still_run(self) -> bool:
        return not self.ended

    @property
    def checks_funding(self) -> bool:
        return self.state is DeploymentState.CHECKING

    @property
    def checkpoint_here(self) -> bool:
        """Whether the newest checkpoint's archive is kept."""
        return self.checkpoint is not None and self.deleted < self.checkpoint.number

    @property
    def tx_hash(self) -> str:
        return self.request.tx_hash if self.request else ""

    # --- commands ---------------------------------------------------------------------------
    def ask(
        self, peer_id: str, request: ServiceRequest, price: str, payee: str = "", resume: ResumeFrom | None = None
    ) -> None:
        """Records the request; `grant` or `refuse` decides it."""
        self.trigger(self.Requested(service_provider=peer_id, request=request, price=price, payee=payee, resume=resume))

    def accept_funding(self, check: str, payer: str, units: str, block: int) -> None:
        if not self.funded:
            self.trigger(self.FundingAccepted(tx_hash=self.tx_hash, check=check, payer=payer, units=units, block=block))

    def grant(
        self,
        reserved: Resources,
        gpu_uuids: tuple[str, ...],
        *,
        gpus_shared: bool = False,
        network: Network = Network.NONE,
        for_stranger: bool = False,
    ) -> None:
        self.trigger(
            self.Accepted(
                reserved=reserved,
                gpu_uuids=gpu_uuids,
                gpus_shared=gpus_shared,
                network=network.value,
                for_stranger=for_stranger,
            )
        )

    def refuse(self, reason: str, fault: Fault = Fault.PROVIDER) -> None:
        self.trigger(self.Rejected(reason=reason, fault=fault))

    def accept(
        self,
        peer_id: str,
        request: ServiceRequest,
        price: str,
        reserved: Resources,
        gpu_uuids: tuple[str, ...],
        *,
        gpus_shared: bool = False,
    ) -> None:
        """Asked for and granted at once."""
        self.ask(peer_id, request, price)
        self.grant(reserved, gpu_uuids, gpus_shared=gpus_shared)

    def reject(
        self, peer_id: str, request: ServiceRequest, price: str, reason: str, fault: Fault = Fault.PROVIDER
    ) -> None:
        """Asked for and refused at once."""
        self.ask(peer_id, request, price)
        self.refuse(reason, fault)

    def image_pulled(self, digest: str, image: str = "", image_id: str = "", *, fetched: bool = False) -> None:
        if not (self.digest or self.ended):
            self.trigger(self.ImagePulled(digest=digest, image=image, image_id=image_id, fetched=fetched))

    def container_created(self, container_id: str, executor: str) -> None:
        self.trigger(self.ContainerCreated(container_id=container_id, executor=executor))

    def container_started(self, started_at: int, boot_id: str = "", started_boot_us: int = 0) -> None:
        """started_at: Unix time in microseconds, as the engine says. started_boot_us: the same moment by the machine's
        boot-time clock, of the boot that boot_id names."""
        if self.request is None:
            raise Conflict(f"deployment {self.key} has no request")
        limit = self.request.constraints.time * 60 * MICROSECONDS
        self.trigger(
            self.ContainerStarted(stops_at=started_at + limit, boot_id=boot_id, started_boot_us=started_boot_us)
        )

    def workspace_restored(self) -> None:
        if self.resume is not None and not self.restored:
            self.trigger(self.WorkspaceRestored(name=self.resume.name, sha256=self.resume.sha256))

    def save_checkpoint(
        self, name: str, size_bytes: int, sha256: str, saved_at: int, files: int = 0, skipped: int = 0
    ) -> bool:
        """Whether it is another one than the last. saved_at: Unix time in microseconds."""
        last = self.checkpoint
        if self.ended or self.log_sealed or (last is not None and last.sha256 == sha256):
            return False
        self.trigger(
            self.CheckpointSaved(
                number=(last.number if last else 0) + 1,
                name=name,
                size_bytes=size_bytes,
                sha256=sha256,
                saved_at=saved_at,
                files=files,
                skipped=skipped,
            )
        )
        return True

    def skip_checkpoint(self, reason: str) -> bool:
        """Whether that is news."""
        if self.ended or self.log_sealed or reason == self.checkpoint_trouble:
            return False
        self.trigger(self.CheckpointSkipped(reason=reason))
        return True

    def checkpoint_delivered(self, sha256: str) -> bool:
        """Whether it is the newest one, and was not known to be there."""
        last = self.checkpoint
        if last is None or last.sha256 != sha256 or self.delivered == last.number:
            return False
        self.trigger(self.CheckpointDelivered(number=last.number))
        return True

    def delete_checkpoint(self, reason: str) -> bool:
        """Whether that is news: the newest archive is no longer to be had here. reason: "delivered", "expired" or
        "could not be kept"."""
        if self.checkpoint is None or not self.checkpoint_here:
            return False
        self.trigger(self.CheckpointDeleted(number=self.checkpoint.number, reason=reason))
        return True

    def request_stop(self, by: str, reason: str, fault: Fault) -> bool:
        """Whether this is the first request; a deployment that has ended is left alone."""
        if self.ended or self.stop is not None:
            return False
        self.trigger(self.StopRequested(by=by, reason=reason, fault=fault))
        return True

    def seal_log(self, lines: int, sha256: str, truncated: bool) -> None:
        if not self.log_sealed:
            self.trigger(self.LogSealed(lines=lines, sha256=sha256, truncated=truncated))

    def exited(
        self,
        exit_code: int,
        oom_killed: bool,
        duration_seconds: float,
        *,
        received_bytes: int = 0,
        sent_bytes: int = 0,
    ) -> None:
        """The container is over: by itself, or because it was told to stop."""
        if self.stop is None:
            self.trigger(
                self.ContainerExited(
                    exit_code=exit_code,
                    oom_killed=oom_killed,
                    duration_seconds=duration_seconds,
                    received_bytes=received_bytes,
                    sent_bytes=sent_bytes,
                )
            )
        else:
            self._end_stopped(exit_code, duration_seconds)

    def stopped(self, duration_seconds: float = 0.0) -> None:
        """A stop took effect before the container ever ran, or what it left with is not known."""
        self._end_stopped(None, duration_seconds)

    def fail(self, reason: str, fault: Fault, exit_code: int | None = None, duration_seconds: float = 0.0) -> None:
        """exit_code, duration_seconds: of a container that was ended from outside."""
        lasted = duration_seconds if self.ran else 0.0
        self.trigger(self.Failed(reason=reason, fault=fault, exit_code=exit_code, duration_seconds=lasted))

    def _end_stopped(self, exit_code: int | None, duration_seconds: float) -> None:
        if self.stop is None:
            raise Conflict(f"deployment {self.key} was not told to stop")
        self.trigger(
            self.Stopped(
                by=self.stop.by,
                reason=self.stop.reason,
                fault=self.stop.fault,
                exit_code=exit_code,
                duration_seconds=duration_seconds if self.ran else 0.0,
            )
        )

    # --- what the events change -------------------------------------------------------------
    @applies(DeploymentEvents.Requested)
    def _requested(self, event: DeploymentEvents.Requested) -> None:
        self.service_provider, self.request = event.service_provider, event.request
        self.price, self.payee, self.resume = event.price, event.payee, event.resume

    @applies(DeploymentEvents.Accepted)
    def _accepted(self, event: DeploymentEvents.Accepted) -> None:
        self.reserved, self.gpu_uuids, self.gpus_shared = event.reserved, event.gpu_uuids, event.gpus_shared
        self.network = Network.INTERNET if event.network == Network.INTERNET else Network.NONE
        self.for_stranger = event.for_stranger

    @applies(DeploymentEvents.Rejected)
    def _rejected(self, event: DeploymentEvents.Rejected) -> None:
        self.rejection = event.reason
        self.fault, self.outcome = event.fault, outcome_of(event)

    @applies(DeploymentEvents.ImagePulled)
    def _image_pulled(self, event: DeploymentEvents.ImagePulled) -> None:
        self.digest = event.digest

    @applies(DeploymentEvents.ContainerCreated)
    def _container_created(self, event: DeploymentEvents.ContainerCreated) -> None:
        self.container_id = event.container_id

    @applies(DeploymentEvents.ContainerStarted)
    def _container_started(self, event: DeploymentEvents.ContainerStarted) -> None:
        self.stops_at = event.stops_at
        self.boot_id, self.started_boot_us = event.boot_id, event.started_boot_us

    @applies(DeploymentEvents.WorkspaceRestored)
    def _workspace_restored(self, _: DeploymentEvents.WorkspaceRestored) -> None:
        self.restored = True

    @applies(DeploymentEvents.CheckpointSaved)
    def _checkpoint_saved(self, event: DeploymentEvents.CheckpointSaved) -> None:
        self.checkpoint, self.checkpoint_trouble = event, ""

    @applies(DeploymentEvents.CheckpointSkipped)
    def _checkpoint_skipped(self, event: DeploymentEvents.CheckpointSkipped) -> None:
        self.checkpoint_trouble = event.reason

    @applies(DeploymentEvents.CheckpointDelivered)
    def _checkpoint_delivered(self, event: DeploymentEvents.CheckpointDelivered) -> None:
        self.delivered = event.number

    @applies(DeploymentEvents.CheckpointDeleted)
    def _checkpoint_deleted(self, event: DeploymentEvents.CheckpointDeleted) -> None:
        self.deleted = event.number

    @applies(DeploymentEvents.StopRequested)
    def _stop_requested(self, event: DeploymentEvents.StopRequested) -> None:
        self.stop = event

    @applies(DeploymentEvents.ContainerExited)
    def _exited(self, event: DeploymentEvents.ContainerExited) -> None:
        self.fault, self.outcome = Fault.JOB, outcome_of(event)

    @applies(DeploymentEvents.Failed)
    def _failed(self, event: DeploymentEvents.Failed) -> None:
        self.fault, self.outcome = event.fault, outcome_of(event)

    @applies(DeploymentEvents.Stopped)
    def _stopped(self, event: DeploymentEvents.Stopped) -> None:
        self.fault, self.outcome = event.fault, outcome_of(event)


def outcome_of(event: Event) -> Outcome | None:
    """What a deployment's event says of its end; None when it is not one that ends it."""
    match event:
        case Deployment.ContainerExited():
            completed = event.exit_code == 0 and not event.oom_killed
            return Outcome(completed=completed, duration_seconds=event.duration_seconds)
        case Deployment.Stopped() | Deployment.Failed():
            return Outcome(provider_fault=event.fault.of_provider, duration_seconds=event.duration_seconds)
        case Deployment.Rejected():
            return Outcome(provider_fault=event.fault.of_provider)
    return None
