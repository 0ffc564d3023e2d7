"""What follows from the open deployments, in memory, so that a decision needs no search."""

from __future__ import annotations

from collections.abc import Iterable

from dms.application.ports.event_log import EventLog
from dms.domain.deployment import Deployment, DeploymentState
from dms.domain.reservations import Reservations
from dms.domain.resources import Resources
from dms.domain.retry import attempt_of, deployment_id, job_of


class DeploymentIndex:
    """Kept by the log, with each decision and with each one that could not be written: see `EventLog.index`.

    reservations: gets what each deployment holds of the device. preparing: ids of jobs that have no container yet."""

    def __init__(self, log: EventLog, reservations: Reservations) -> None:
        self._log, self._reservations = log, reservations
        self._payers: dict[str, str] = {}  # job id -> the peer whose payment for it is looked up
        self._takers: dict[str, tuple[str, Resources]] = {}  # job id -> whose it is, what it takes until it is over
        self.preparing: set[str] = set()
        log.index(Deployment, self._restate)

    def take_up(self, job_ids: Iterable[str]) -> None:
        """Those that were open when the log was last written."""
        for job_id in job_ids:
            self._restate(job_id, self._log.load(Deployment, job_id))

    def payments_checked(self, peer_id: str, but: str) -> tuple[int, int]:
        """How many payments are looked up now: of all peers, of that one. but: a job that does not count."""
        others = [peer for job_id, peer in self._payers.items() if job_id != but]
        return len(others), others.count(peer_id)

    def taken_by(self, peer_id: str) -> tuple[Resources, int]:
        """What that peer's jobs take together, and how many they are."""
        taken = [resources for peer, resources in self._takers.values() if peer == peer_id]
        return sum(taken, start=Resources()), len(taken)

    def earlier_attempt(self, deployment: Deployment) -> str:
        """The id of an earlier attempt of its job which has not ended here; empty for none."""
        peer_id, job_id, number = deployment.service_provider, job_of(deployment.key), attempt_of(deployment.key)
        earlier = (deployment_id(job_id, n) for n in range(1, number))
        return next((key for key in earlier if key in self._takers and self._takers[key][0] == peer_id), "")

    def _restate(self, job_id: str, deployment: Deployment | None) -> None:
        state = DeploymentState.NEW if deployment is None else deployment.state
        if deployment is not None and state is DeploymentState.CHECKING:
            self._payers[job_id] = deployment.service_provider
        else:
            self._payers.pop(job_id, None)
        if state is DeploymentState.ACCEPTED:
            self.preparing.add(job_id)
        else:
            self.preparing.discard(job_id)
        self._reserve(job_id, deployment)

    def _reserve(self, job_id: str, deployment: Deployment | None) -> None:
        if deployment is None or deployment.reserved == Resources():
            self._reservations.release(job_id)
            self._takers.pop(job_id, None)
        elif deployment.ended:
            self._reservations.leave(job_id, deployment.reserved.memory_mb)
            self._takers.pop(job_id, None)
        else:
            self._takers[job_id] = deployment.service_provider, deployment.reserved
            self._reservations.hold(job_id, deployment.reserved, deployment.gpu_uuids, shared=deployment.gpus_shared)
