"""A deployment: the execution of one job on this compute provider. Its key is the job's id."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.checkpoint import ResumeFrom
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.request import PERSONAL_FIELDS, ServiceRequest
from dms.domain.resources import Resources
from dms.domain.reward import Outcome, Reward, reward
from dms.domain.sealing import ERASED, below
from dms.errors import Conflict

MICROSECONDS = 1_000_000


class DeploymentState(StrEnum):
    NEW = "new"  # nothing recorded yet
    CHECKING = "checking"  # asked for; what it can't decide at once is looked up (its payment, on a chain)
    ACCEPTED = "accepted"  # capacity is reserved; the image is being fetched
    CREATED = "created"  # the container exists and was not started by us yet
    RUNNING = "running"
    STOPPING = "stopping"  # told to stop; the reason is recorded, the container may still run
    ENDED = "ended"  # nothing more will happen; the capacity is free again


class Fault(StrEnum):
    """Whose fault an end was."""

    NONE = ""
    REQUESTER = "requester"  # what was asked for can't work: no such image, command, time, memory
    PROVIDER = "provider"  # the provider or its engine failed
    JOB = "job"  # the container itself ended with an error
    NETWORK = "network"

    @property
    def of_provider(self) -> bool:
        """Whether the service provider gets its money back for it."""
        return self in (Fault.PROVIDER, Fault.NETWORK)


NEXT = {  # the whole state machine; a test walks this table
    DeploymentState.NEW: {DeploymentState.CHECKING},
    DeploymentState.CHECKING: {DeploymentState.ACCEPTED, DeploymentState.STOPPING, DeploymentState.ENDED},
    DeploymentState.ACCEPTED: {DeploymentState.CREATED, DeploymentState.STOPPING, DeploymentState.ENDED},
    DeploymentState.CREATED: {DeploymentState.RUNNING, DeploymentState.STOPPING, DeploymentState.ENDED},
    DeploymentState.RUNNING: {DeploymentState.STOPPING, DeploymentState.ENDED},
    DeploymentState.STOPPING: {DeploymentState.ENDED},
    DeploymentState.ENDED: set[DeploymentState](),
}


class Deployment(Aggregate):
    KIND: ClassVar[str] = "deployment"

    @register
    class Requested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.requested"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {
            **below("request", PERSONAL_FIELDS),
            "service_provider": ERASED,
            "payee": ERASED,
        }
        service_provider: str  # peer id of the secured connection
        request: ServiceRequest
        price: str  # NTX for the whole time, as quoted
        payee: str = ""  # our payment address at that time
        resume: ResumeFrom | None = None  # the checkpoint that its workspace begins with

    @register
    class FundingPending(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.funding_pending"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        until: int  # Unix time in microseconds: the end of our patience

    @register
    class FundingAccepted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.funding_accepted"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED, "payer": ERASED}
        tx_hash: str
        check: str  # the name of our own funding check
        payer: str = ""  # the address that paid, as the chain has it
        units: str = ""  # what arrived, in whole smallest units
        block: int = 0

    @register
    class Accepted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.accepted"
        reserved: Resources
        gpu_uuids: tuple[str, ...] = ()
        gpus_shared: bool = False  # with other jobs; else they are this job's alone

    @register
    class Rejected(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.rejected"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        fault: Fault = Fault.PROVIDER

    @register
    class ImagePulled(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.image_pulled"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"image": ERASED}
        digest: str
        image: str = ""  # the whole name: registry, repository and tag or digest
        image_id: str = ""  # the engine's own
        fetched: bool = False  # for this very deployment; false: it was on the machine already

    @register
    class ContainerCreated(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.container_created"
        container_id: str
        executor: str

    @register
    class ContainerStarted(Event, frozen=True, kw_only=True, gc=False):
        """boot_id, started_boot_us: which boot of the machine, and its boot-time clock in microseconds at the start, so
        that the run is measured by one clock that no one sets; empty and 0 in older logs."""

        TOPIC: ClassVar[str] = "deployment.container_started"
        stops_at: int  # Unix time in microseconds: the time limit
        boot_id: str = ""
        started_boot_us: int = 0

    @register
    class WorkspaceRestored(Event, frozen=True, kw_only=True, gc=False):
        """The checkpoint was fetched, checked and unpacked, before the container was created."""

        TOPIC: ClassVar[str] = "deployment.workspace_restored"
        name: str
        sha256: str

    @register
    class CheckpointSaved(Event, frozen=True, kw_only=True, gc=False):
        """The workspace is archived here; the service provider may fetch it. skipped: links, devices and
        the like, which an archive never holds."""

        TOPIC: ClassVar[str] = "deployment.checkpoint_saved"
        number: int  # from 1, of this deployment
        name: str
        size_bytes: int
        sha256: str  # hex, of the archive's bytes
        saved_at: int  # Unix time in microseconds
        files: int = 0
        skipped: int = 0

    @register
    class CheckpointSkipped(Event, frozen=True, kw_only=True, gc=False):
        """The workspace could not be archived; the last checkpoint stands."""

        TOPIC: ClassVar[str] = "deployment.checkpoint_skipped"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str

    @register
    class CheckpointDelivered(Event, frozen=True, kw_only=True, gc=False):
        """The service provider says that it has it."""

        TOPIC: ClassVar[str] = "deployment.checkpoint_delivered"
        number: int

    @register
    class CheckpointDeleted(Event, frozen=True, kw_only=True, gc=False):
        """Its archive is no longer here. reason: "delivered", "expired" or "could not be kept"."""

        TOPIC: ClassVar[str] = "deployment.checkpoint_deleted"
        number: int
        reason: str

    @register
    class StopRequested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.stop_requested"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        by: str  # "service provider" | "time limit" | "operator"
        reason: str
        fault: Fault = Fault.REQUESTER

    @register
    class LogSealed(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.log_sealed"
        lines: int
        sha256: str  # hex, of the log file's bytes
        truncated: bool = False

    @register
    class ContainerExited(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.container_exited"
        exit_code: int
        oom_killed: bool = False
        duration_seconds: float = 0.0

    @register
    class Failed(Event, frozen=True, kw_only=True, gc=False):
        """exit_code, duration_seconds: of a container that something other than the job and us has ended."""

        TOPIC: ClassVar[str] = "deployment.failed"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        fault: Fault
        exit_code: int | None = None
        duration_seconds: float = 0.0

    @register
    class Stopped(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.stopped"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        by: str
        reason: str
        fault: Fault
        exit_code: int | None = None
        duration_seconds: float = 0.0

    @register
    class RewardClaimed(Event, frozen=True, kw_only=True, gc=False):
        """Amounts in NTX, decimal text."""

        TOPIC: ClassVar[str] = "deployment.reward_claimed"
        reward_type: str
        price: str
        to_provider: str
        to_requester: str

    @register
    class RewardSettled(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.reward_settled"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED}
        transaction_type: str  # "done" as reported; "withdrawn", "refunded", "distributed" as the chain has it
        tx_hash: str = ""  # of the transaction that settled it, where that is known

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.state = DeploymentState.NEW
        self.service_provider = ""
        self.price = ""
        self.payee = ""
        self.payer = ""
        self.block = 0
        self.funded = False
        self.funding_until = 0
        self.funding_reason = ""
        self.outcome: Outcome | None = None
        self.claimed = False
        self.settled = ""
        self.request: ServiceRequest | None = None
        self.reserved = Resources()
        self.gpu_uuids: tuple[str, ...] = ()
        self.gpus_shared = False
        self.digest = ""
        self.container_id = ""
        self.stops_at = 0
        self.boot_id = ""
        self.started_boot_us = 0
        self.stop: Deployment.StopRequested | None = None
        self.rejection = ""
        self.log_sealed = False
        self.resume: ResumeFrom | None = None
        self.restored = False
        self.checkpoint: Deployment.CheckpointSaved | None = None
        self.checkpoint_trouble = ""  # why the newest could not be made
        self.delivered = 0  # the number of the newest that the service provider has
        self.deleted = 0  # the number of the newest whose archive is no longer here

    @property
    def ended(self) -> bool:
        return self.state is DeploymentState.ENDED

    @property
    def checkpoint_here(self) -> bool:
        """Whether the newest checkpoint's archive is kept."""
        return self.checkpoint is not None and self.deleted < self.checkpoint.number

    @property
    def correlation_id(self) -> str:
        return self.key

    @property
    def tx_hash(self) -> str:
        return self.request.tx_hash if self.request else ""

    @property
    def minutes(self) -> int:
        """Asked and paid for."""
        return self.request.constraints.time if self.request else 0

    @property
    def reward(self) -> Reward | None:
        """Who gets what; None until it is over."""
        return None if self.outcome is None else reward(self.price, self.minutes, self.outcome)

    # --- commands ---------------------------------------------------------------------------
    def ask(
        self, peer_id: str, request: ServiceRequest, price: str, payee: str = "", resume: ResumeFrom | None = None
    ) -> None:
        """Records the request; `grant` or `refuse` decides it."""
        self._move(DeploymentState.CHECKING)
        self.trigger(self.Requested(service_provider=peer_id, request=request, price=price, payee=payee, resume=resume))

    def wait_for_funding(self, reason: str, until: int) -> bool:
        """Whether that is news."""
        if self.state is not DeploymentState.CHECKING or (reason, until) == (self.funding_reason, self.funding_until):
            return False
        self.trigger(self.FundingPending(reason=reason, until=until))
        return True

    def accept_funding(self, check: str, payer: str, units: str, block: int) -> None:
        if not self.funded:
            self.trigger(self.FundingAccepted(tx_hash=self.tx_hash, check=check, payer=payer, units=units, block=block))

    def grant(self, reserved: Resources, gpu_uuids: tuple[str, ...], *, gpus_shared: bool = False) -> None:
        self._move(DeploymentState.ACCEPTED)
        self.trigger(self.Accepted(reserved=reserved, gpu_uuids=gpu_uuids, gpus_shared=gpus_shared))

    def refuse(self, reason: str, fault: Fault = Fault.PROVIDER) -> None:
        self._move(DeploymentState.ENDED)
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

    def claim_reward(self) -> Reward:
        """The first claim is recorded, a repeat gets the same answer. Raises Conflict while it runs."""
        found = self.reward
        if found is None:
            raise Conflict("the job is still running")
        if not self.claimed:
            self.trigger(self.RewardClaimed(**reward_fields(found)))
        return found

    def settle_reward(self, transaction_type: str, tx_hash: str = "") -> bool:
        """Whether that is news. Raises Conflict while it runs."""
        if self.outcome is None:
            raise Conflict("the job is still running")
        if self.settled:
            return False
        self.trigger(self.RewardSettled(transaction_type=transaction_type, tx_hash=tx_hash))
        return True

    def image_pulled(self, digest: str, image: str = "", image_id: str = "", *, fetched: bool = False) -> None:
        if not self.digest:
            self.trigger(self.ImagePulled(digest=digest, image=image, image_id=image_id, fetched=fetched))

    def container_created(self, container_id: str, executor: str) -> None:
        self._move(DeploymentState.CREATED)
        self.trigger(self.ContainerCreated(container_id=container_id, executor=executor))

    def container_started(self, started_at: int, boot_id: str = "", started_boot_us: int = 0) -> None:
        """started_at: Unix time in microseconds, as the engine says. started_boot_us: the same moment by the machine's
        boot-time clock, of the boot that boot_id names."""
        self._move(DeploymentState.RUNNING)
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
        if self.ended or (last is not None and last.sha256 == sha256):
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
        if self.ended or reason == self.checkpoint_trouble:
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
        self._move(DeploymentState.STOPPING)
        self.trigger(self.StopRequested(by=by, reason=reason, fault=fault))
        return True

    def seal_log(self, lines: int, sha256: str, truncated: bool) -> None:
        if not self.log_sealed:
            self.trigger(self.LogSealed(lines=lines, sha256=sha256, truncated=truncated))

    def exited(self, exit_code: int, oom_killed: bool, duration_seconds: float) -> None:
        """The container is over: by itself, or because it was told to stop."""
        self._move(DeploymentState.ENDED)
        if self.stop is None:
            self.trigger(
                self.ContainerExited(exit_code=exit_code, oom_killed=oom_killed, duration_seconds=duration_seconds)
            )
        else:
            self._end_stopped(exit_code, duration_seconds)

    def stopped(self) -> None:
        """A stop took effect before the container ever ran."""
        self._move(DeploymentState.ENDED)
        self._end_stopped(None, 0.0)

    def fail(self, reason: str, fault: Fault, exit_code: int | None = None, duration_seconds: float = 0.0) -> None:
        """exit_code, duration_seconds: of a container that was ended from outside."""
        self._move(DeploymentState.ENDED)
        self.trigger(self.Failed(reason=reason, fault=fault, exit_code=exit_code, duration_seconds=duration_seconds))

    def _end_stopped(self, exit_code: int | None, duration_seconds: float) -> None:
        if self.stop is None:
            raise Conflict(f"deployment {self.key} was not told to stop")
        self.trigger(
            self.Stopped(
                by=self.stop.by,
                reason=self.stop.reason,
                fault=self.stop.fault,
                exit_code=exit_code,
                duration_seconds=duration_seconds,
            )
        )

    def _move(self, to: DeploymentState) -> None:
        if to not in NEXT[self.state]:
            raise Conflict(f"deployment {self.key}: {self.state} can't become {to}")

    # --- what the events change -------------------------------------------------------------
    @applies(Requested)
    def _requested(self, event: Requested) -> None:
        self.state = DeploymentState.CHECKING
        self.service_provider, self.request = event.service_provider, event.request
        self.price, self.payee, self.resume = event.price, event.payee, event.resume

    @applies(FundingPending)
    def _funding_pending(self, event: FundingPending) -> None:
        self.funding_reason, self.funding_until = event.reason, event.until

    @applies(FundingAccepted)
    def _funding_accepted(self, event: FundingAccepted) -> None:
        self.funded = True
        self.payer, self.block = event.payer, event.block

    @applies(Accepted)
    def _accepted(self, event: Accepted) -> None:
        self.state = DeploymentState.ACCEPTED
        self.reserved, self.gpu_uuids, self.gpus_shared = event.reserved, event.gpu_uuids, event.gpus_shared

    @applies(Rejected)
    def _rejected(self, event: Rejected) -> None:
        self.state = DeploymentState.ENDED
        self.rejection = event.reason
        self.outcome = outcome_of(event)

    @applies(ImagePulled)
    def _image_pulled(self, event: ImagePulled) -> None:
        self.digest = event.digest

    @applies(ContainerCreated)
    def _container_created(self, event: ContainerCreated) -> None:
        self.state = DeploymentState.CREATED
        self.container_id = event.container_id

    @applies(ContainerStarted)
    def _container_started(self, event: ContainerStarted) -> None:
        self.state = DeploymentState.RUNNING
        self.stops_at = event.stops_at
        self.boot_id, self.started_boot_us = event.boot_id, event.started_boot_us

    @applies(WorkspaceRestored)
    def _workspace_restored(self, _: WorkspaceRestored) -> None:
        self.restored = True

    @applies(CheckpointSaved)
    def _checkpoint_saved(self, event: CheckpointSaved) -> None:
        self.checkpoint, self.checkpoint_trouble = event, ""

    @applies(CheckpointSkipped)
    def _checkpoint_skipped(self, event: CheckpointSkipped) -> None:
        self.checkpoint_trouble = event.reason

    @applies(CheckpointDelivered)
    def _checkpoint_delivered(self, event: CheckpointDelivered) -> None:
        self.delivered = event.number

    @applies(CheckpointDeleted)
    def _checkpoint_deleted(self, event: CheckpointDeleted) -> None:
        self.deleted = event.number

    @applies(StopRequested)
    def _stop_requested(self, event: StopRequested) -> None:
        self.state = DeploymentState.STOPPING
        self.stop = event

    @applies(LogSealed)
    def _log_sealed(self, _: LogSealed) -> None:
        self.log_sealed = True

    @applies(ContainerExited)
    def _exited(self, event: ContainerExited) -> None:
        self.state, self.outcome = DeploymentState.ENDED, outcome_of(event)

    @applies(Failed)
    def _failed(self, event: Failed) -> None:
        self.state, self.outcome = DeploymentState.ENDED, outcome_of(event)

    @applies(Stopped)
    def _stopped(self, event: Stopped) -> None:
        self.state, self.outcome = DeploymentState.ENDED, outcome_of(event)

    @applies(RewardClaimed)
    def _reward_claimed(self, _: RewardClaimed) -> None:
        self.claimed = True

    @applies(RewardSettled)
    def _reward_settled(self, event: RewardSettled) -> None:
        self.settled = event.transaction_type


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


def reward_fields(found: Reward) -> dict[str, str]:
    """As the events have it."""
    return {
        "reward_type": found.reward_type.value,
        "price": found.price,
        "to_provider": found.to_provider,
        "to_requester": found.to_requester,
    }
