"""What the event log says of the jobs' outputs: the digest that was sealed, and whether it was erased since."""

from __future__ import annotations

from collections.abc import Iterable

from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import SealedLog
from dms.domain.deployment import Deployment
from dms.domain.erasure import Erasure
from dms.domain.event import Recorded
from dms.domain.job import Job
from dms.domain.retry import MOST_ATTEMPTS, deployment_id, job_of

SEALED_TOPICS = (Deployment.LogSealed.TOPIC, Job.LogSealed.TOPIC)


class Seals:
    """In memory is what was erased: kept by the log, see `EventLog.index`, so that no request looks through it."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._erased: dict[str, frozenset[str]] = {}  # scopes, by erasure
        event_log.index(Erasure, self._restate)

    def take_up(self, erasure_ids: Iterable[str]) -> None:
        """Those that were decided before."""
        for erasure_id in erasure_ids:
            self._restate(erasure_id, self._log.load(Erasure, erasure_id))

    def _restate(self, erasure_id: str, erasure: Erasure | None) -> None:
        if erasure is None:
            self._erased.pop(erasure_id, None)
        else:
            self._erased[erasure_id] = frozenset(erasure.scopes)

    async def sealed(self, job_id: str) -> SealedLog | None:
        """Where we ran it, our own; else the provider's that we have taken over. job_id: or that of an attempt."""
        for stream in (f"{Deployment.KIND}-{job_id}", f"{Job.KIND}-{job_of(job_id)}"):
            for found in await self._log.read(0, MOST_ATTEMPTS, topics=SEALED_TOPICS, stream=stream):
                if output_of(found) == job_id:
                    return sealed_by(found)
        return None

    async def erased(self, job_id: str) -> bool:
        return any(job_id in scopes for scopes in self._erased.values())


def output_of(recorded: Recorded) -> str:
    """Under which id the output is kept that such an event has sealed."""
    event = recorded.event
    return deployment_id(recorded.key, event.attempt) if isinstance(event, Job.LogSealed) else recorded.key


def sealed_by(recorded: Recorded) -> SealedLog | None:
    event = recorded.event
    if isinstance(event, Deployment.LogSealed | Job.LogSealed):
        return SealedLog(event.lines, event.sha256, event.truncated)
    return None


def scopes_of(recorded: Recorded) -> tuple[str, ...]:
    """What an erasure was asked for."""
    return recorded.event.scopes if isinstance(recorded.event, Erasure.Requested) else ()
