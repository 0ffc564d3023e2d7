"""Whose a job's id is. Providers that are asked whether they would take a job may learn its id, so what is known of an
id is open to its own peer alone."""

from __future__ import annotations

from dms.application.ports.event_log import EventLog
from dms.domain.deployment import Deployment
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.retry import attempt_of, deployment_id, job_of
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
    """Raises Forbidden when the id is of a job of this node's own, or of one that another peer has asked about before,
    be it as an earlier attempt: what a peer asks for under that id would be taken for it."""
    first = job_of(job_id)
    attempts = [deployment_id(first, number) for number in range(1, attempt_of(job_id) + 1)]
    if log.load(Job, first) is not None or any(_is_anothers(log, key, peer_id) for key in attempts):
        raise Forbidden(f"job {job_id} belongs to another peer")


def has_kept_place(log: EventLog, job_id: str, peer_id: str) -> bool:
    """Whether a place is kept for that peer's job, or was: then the id is its own already."""
    hold = log.load(Hold, job_id)
    return hold is not None and hold.asker == log.pseudonym(peer_id)


def _is_anothers(log: EventLog, attempt: str, peer_id: str) -> bool:
    deployment, hold = log.load(Deployment, attempt), log.load(Hold, attempt)
    asked = deployment is not None and deployment.service_provider != peer_id
    return asked or (hold is not None and hold.asker != log.pseudonym(peer_id))
