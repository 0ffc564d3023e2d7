"""Which streams may leave the table once their events are archived: those that nothing is decided on any more."""

from __future__ import annotations

from collections.abc import Sequence

from dms.domain.deployment import Deployment
from dms.domain.event import Recorded
from dms.domain.hold import Hold
from dms.domain.job import Job, JobState
from dms.domain.transfer import Transfer


def is_closable(stream: str) -> bool:
    """Whether such a stream ends at all. The device, providers and payments do not: the first version of a payment's
    stream is the proof that a transaction was used once, which the table's unique index keeps. Erasures stay too: each
    start asks for all of them, and must not need the archive for it."""
    return stream.partition("-")[0] in (Job.KIND, Deployment.KIND, Transfer.KIND, Hold.KIND)


def is_closed(stream: str, events: Sequence[Recorded]) -> bool:
    """Whether the job, deployment, transfer or hold has ended. events: all of the stream. What comes after the end (a
    reward that is claimed late, a place that is asked for once more) is decided on the archived events as well."""
    kind = stream.partition("-")[0]
    if kind == Job.KIND:
        job = Job.project(None, events)
        return job is not None and not job.open and job.state is not JobState.NEW
    if kind == Deployment.KIND:
        deployment = Deployment.project(None, events)
        return deployment is not None and deployment.ended
    if kind == Transfer.KIND:
        transfer = Transfer.project(None, events)
        return transfer is not None and transfer.ended
    if kind == Hold.KIND:
        hold = Hold.project(None, events)
        return hold is not None and not hold.held
    return False
