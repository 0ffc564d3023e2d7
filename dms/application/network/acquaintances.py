"""Which peers are no strangers: who is trusted by this machine's owner, and with whom it has worked."""

from __future__ import annotations

from collections.abc import Collection

from dms.application.device.device import DeviceService
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.recent import Recent

MOST_PARTNERS = 4096


class Acquaintances:
    """Kept by the log: see `EventLog.index`. After a restart the partners of open jobs are known again."""

    def __init__(self, log: EventLog, device: DeviceService, network: PeerNetwork, named: Collection[str] = ()) -> None:
        """named: ids of peers in the configuration."""
        self._device, self._network, self._named = device, network, frozenset(named)
        self._partners = Recent[str, None](MOST_PARTNERS)
        log.index(Deployment, self._note_deployment)
        log.index(Job, self._note_job)

    def is_trusted(self, peer_id: str) -> bool:
        """It is on the owner's list of allowed peers, or run by an operator on this machine."""
        return peer_id in self._device.state.policy.peers.allow or self._network.is_local(peer_id)

    def is_known(self, peer_id: str) -> bool:
        """It is trusted, named in the configuration, or has had a job of ours or given us one, and is not denied."""
        if self._device.denies(peer_id):
            return False
        return peer_id in self._partners or peer_id in self._named or self.is_trusted(peer_id)

    def _note_deployment(self, _job_id: str, deployment: Deployment | None) -> None:
        """Anybody may ask: only one that was taken counts."""
        if deployment is not None and deployment.reserved != Resources():
            self._partners[deployment.service_provider] = None

    def _note_job(self, _job_id: str, job: Job | None) -> None:
        if job is not None and job.attempts and job.provider_version:
            self._partners[job.provider] = None
