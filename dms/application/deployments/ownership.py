"""Whose a job's id is. Every provider that is asked whether it would take a job learns its id, so what is known of an
id is open to its own peer alone."""

from __future__ import annotations

from dms.application.ports.event_log import EventLog
from dms.domain.deployment import Deployment
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.retry import job_of
from dms.errors import Forbidden, NotFound


def check_owner(deployment: Deployment, peer_id: str) -> None:
    """Raises Forbidden for another peer than the one that asked for it."""
    if deployment.service_provider != peer_id:
        raise Forbidden(f"deployment {deployment.key} belongs to another peer")


def deployment_of(log: EventLog, job_id: str, peer_id: str) -> Deployment:
    """Raises NotFound; Forbidden for another peer than the one that asked for it."""
    deployment = log.load(Deployment, job_id)
    if deployment is None:
        raise NotFound(f"no deployment of job {job_id} here")
    check_owner(deployment, peer_id)
    return deployment


def check_free_for(log: EventLog, job_id: str, peer_id: str) -> None:
    """Raises Forbidden when the id is of a job of this node's own, or of one that another peer has asked about before:
    what a peer asks for under that id would be taken for it."""
    hold = log.load(Hold, job_id)
    if log.load(Job, job_of(job_id)) is not None or (hold is not None and hold.asker != log.pseudonym(peer_id)):
        raise Forbidden(f"job {job_id} belongs to another peer")
