"""What can happen to a deployment, as the log keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dms.domain.checkpoint import ResumeFrom
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.paid_work import PaymentAccepted, PaymentPending, RewardClaim, RewardSettlement
from dms.domain.request import PERSONAL_FIELDS, ServiceRequest
from dms.domain.resources import Resources
from dms.domain.reward import Fault
from dms.domain.sealing import ERASED, below


class DeploymentEvents:
    """The names under which Deployment has them."""

    @register
    class Requested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.requested"
        VERSION: ClassVar[int] = 3
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged, 2: unchanged}
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
    class FundingPending(PaymentPending, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.funding_pending"

    @register
    class FundingAccepted(PaymentAccepted, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.funding_accepted"

    @register
    class Accepted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.accepted"
        reserved: Resources
        gpu_uuids: tuple[str, ...] = ()
        gpus_shared: bool = False  # with other jobs; else they are this job's alone
        network: str = ""  # that the job is given; empty: none
        for_stranger: bool = False  # who gets only images that anybody can have

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
    class InputStarted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.input_started"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"path": ERASED}
        number: int  # from 1, as the request lists them
        path: str  # below /workspace

    @register
    class InputDone(Event, frozen=True, kw_only=True, gc=False):
        """It is whole, checked and in the workspace. cached: nothing was fetched for it."""

        TOPIC: ClassVar[str] = "deployment.input_done"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"path": ERASED}
        number: int
        path: str
        size_bytes: int
        sha256: str  # hex, of what was fetched
        cached: bool = False

    @register
    class InputFailed(Event, frozen=True, kw_only=True, gc=False):
        """It can't be had; the end of the deployment follows."""

        TOPIC: ClassVar[str] = "deployment.input_failed"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"path": ERASED, "reason": ERASED}
        number: int
        path: str
        reason: str

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
    class ResultsSaved(Event, frozen=True, kw_only=True, gc=False):
        """What the job leaves is archived here, for the service provider to fetch. skipped: links, devices and the
        like, which an archive never holds."""

        TOPIC: ClassVar[str] = "deployment.results_saved"
        name: str
        size_bytes: int
        sha256: str  # hex, of the archive's bytes
        saved_at: int  # Unix time in microseconds
        files: int = 0
        skipped: int = 0

    @register
    class ResultsSkipped(Event, frozen=True, kw_only=True, gc=False):
        """What the job leaves can't be given back. fault: the provider's where it lost what it had to keep; none where
        it never said that it could."""

        TOPIC: ClassVar[str] = "deployment.results_skipped"
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        reason: str
        fault: Fault

    @register
    class ResultsDelivered(Event, frozen=True, kw_only=True, gc=False):
        """The service provider says that it has them."""

        TOPIC: ClassVar[str] = "deployment.results_delivered"

    @register
    class ResultsDeleted(Event, frozen=True, kw_only=True, gc=False):
        """Their archive is no longer here. reason: "delivered" or "expired"."""

        TOPIC: ClassVar[str] = "deployment.results_deleted"
        reason: str

    @register
    class StopRequested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.stop_requested"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
        PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
        by: str  # "service provider" | "time limit" | "network limit" | "network" | "operator"
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
        received_bytes: int = 0  # over the network that it was given
        sent_bytes: int = 0

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
    class RewardClaimed(RewardClaim, frozen=True, kw_only=True, gc=False):
        """Amounts in NTX, decimal text."""

        TOPIC: ClassVar[str] = "deployment.reward_claimed"

    @register
    class RewardSettled(RewardSettlement, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.reward_settled"
