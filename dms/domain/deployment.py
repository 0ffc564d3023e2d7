"""A deployment: the execution of one job on this compute provider. Its key is the job's id."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.event import Event, register
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources
from dms.errors import Conflict

MICROSECONDS = 1_000_000


class DeploymentState(StrEnum):
    NEW = "new"  # nothing recorded yet
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


NEXT = {  # the whole state machine; a test walks this table
    DeploymentState.NEW: {DeploymentState.ACCEPTED, DeploymentState.ENDED},
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
        service_provider: str  # peer id of the secured connection
        request: ServiceRequest
        price: str  # NTX for the whole time, as quoted

    @register
    class Accepted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.accepted"
        reserved: Resources
        gpu_uuids: tuple[str, ...] = ()
        gpus_shared: bool = False  # with other jobs; else they are this job's alone

    @register
    class Rejected(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.rejected"
        reason: str
        fault: Fault = Fault.PROVIDER

    @register
    class ImagePulled(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.image_pulled"
        digest: str

    @register
    class ContainerCreated(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.container_created"
        container_id: str
        executor: str

    @register
    class ContainerStarted(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.container_started"
        stops_at: int  # Unix time in microseconds: the time limit

    @register
    class StopRequested(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.stop_requested"
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
        TOPIC: ClassVar[str] = "deployment.failed"
        reason: str
        fault: Fault

    @register
    class Stopped(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "deployment.stopped"
        by: str
        reason: str
        fault: Fault
        exit_code: int | None = None
        duration_seconds: float = 0.0

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.state = DeploymentState.NEW
        self.service_provider = ""
        self.request: ServiceRequest | None = None
        self.reserved = Resources()
        self.gpu_uuids: tuple[str, ...] = ()
        self.gpus_shared = False
        self.digest = ""
        self.container_id = ""
        self.stops_at = 0
        self.stop: Deployment.StopRequested | None = None
        self.rejection = ""
        self.log_sealed = False

    @property
    def ended(self) -> bool:
        return self.state is DeploymentState.ENDED

    @property
    def correlation_id(self) -> str:
        return self.key

    # --- commands ---------------------------------------------------------------------------
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
        self._move(DeploymentState.ACCEPTED)
        self.trigger(self.Requested(service_provider=peer_id, request=request, price=price))
        self.trigger(self.Accepted(reserved=reserved, gpu_uuids=gpu_uuids, gpus_shared=gpus_shared))

    def reject(
        self, peer_id: str, request: ServiceRequest, price: str, reason: str, fault: Fault = Fault.PROVIDER
    ) -> None:
        self._move(DeploymentState.ENDED)
        self.trigger(self.Requested(service_provider=peer_id, request=request, price=price))
        self.trigger(self.Rejected(reason=reason, fault=fault))

    def image_pulled(self, digest: str) -> None:
        if not self.digest:
            self.trigger(self.ImagePulled(digest=digest))

    def container_created(self, container_id: str, executor: str) -> None:
        self._move(DeploymentState.CREATED)
        self.trigger(self.ContainerCreated(container_id=container_id, executor=executor))

    def container_started(self, started_at: int) -> None:
        """started_at: Unix time in microseconds, as the engine says."""
        self._move(DeploymentState.RUNNING)
        if self.request is None:
            raise Conflict(f"deployment {self.key} has no request")
        limit = self.request.constraints.time * 60 * MICROSECONDS
        self.trigger(self.ContainerStarted(stops_at=started_at + limit))

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

    def fail(self, reason: str, fault: Fault) -> None:
        self._move(DeploymentState.ENDED)
        self.trigger(self.Failed(reason=reason, fault=fault))

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
        self.service_provider, self.request = event.service_provider, event.request

    @applies(Accepted)
    def _accepted(self, event: Accepted) -> None:
        self.state = DeploymentState.ACCEPTED
        self.reserved, self.gpu_uuids, self.gpus_shared = event.reserved, event.gpu_uuids, event.gpus_shared

    @applies(Rejected)
    def _rejected(self, event: Rejected) -> None:
        self.state = DeploymentState.ENDED
        self.rejection = event.reason

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

    @applies(StopRequested)
    def _stop_requested(self, event: StopRequested) -> None:
        self.state = DeploymentState.STOPPING
        self.stop = event

    @applies(LogSealed)
    def _log_sealed(self, _: LogSealed) -> None:
        self.log_sealed = True

    @applies(ContainerExited)
    def _exited(self, _: ContainerExited) -> None:
        self.state = DeploymentState.ENDED

    @applies(Failed)
    def _failed(self, _: Failed) -> None:
        self.state = DeploymentState.ENDED

    @applies(Stopped)
    def _stopped(self, _: Stopped) -> None:
        self.state = DeploymentState.ENDED
