"""What counts as a job's events, for whoever asks for them: in the past and live, in exports and in checks."""

from __future__ import annotations

from dms.application.ports.event_log import EventLog
from dms.domain.deployment import Deployment
from dms.domain.event import Recorded
from dms.domain.job import Job

PAGE = 1000


def streams_of_job(job_id: str) -> tuple[str, str]:
    """Of which it has one, or both where this node works for itself."""
    return f"{Job.KIND}-{job_id}", f"{Deployment.KIND}-{job_id}"


async def events_of_job(log: EventLog, job_id: str) -> list[Recorded]:
    """All of them, archived ones too, in the order recorded."""
    found = [event for stream in streams_of_job(job_id) for event in await _whole(log, stream)]
    return sorted(found, key=lambda event: event.position)


async def _whole(log: EventLog, stream: str) -> list[Recorded]:
    found: list[Recorded] = []
    while True:
        page = await log.read(found[-1].position if found else 0, PAGE, stream=stream)
        found += page
        if len(page) < PAGE:
            return found
