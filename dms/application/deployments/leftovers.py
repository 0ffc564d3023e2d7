"""Takes away what a job that is over leaves on the machine: its container, and what it began with.

That it is owed follows from the log and from what the engine still has. So nothing of it needs to be recorded: each
start looks anew, and so does the engine's watch for as long as something stays."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dms.application.deployments.furnishing import Furnishing
from dms.application.device.engine import EngineWatch
from dms.application.device.ml_images import CHECK_PREFIX
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import ExecutionState, Executor
from dms.application.reactors import News, Reactor
from dms.application.unread import stays_if_unread
from dms.domain.deployment import Deployment
from dms.domain.reservations import Reservations
from dms.errors import DmsError, ExecutionError, ExecutorUnavailable

log = logging.getLogger(__name__)


class Leftovers:
    def __init__(
        self, event_log: EventLog, executor: Executor, furnishing: Furnishing, reservations: Reservations
    ) -> None:
        self._log, self._executor = event_log, executor
        self._furnishing, self._reservations = furnishing, reservations

    async def remove(self, job_id: str) -> None:
        """Raises ExecutorUnavailable, ExecutionError."""
        await self._executor.remove(job_id)
        self._reservations.clear(job_id)
        await self._furnishing.forget(job_id)

    async def sweep(self, *, checks: bool = False) -> Sequence[str]:
        """Containers of deployments that have ended (we died between the record and the removal, or the engine was
        away), of checks that hold no GPU any more, and those that do not run and that our log no longer knows, or what
        is left of their making; and what still counts of jobs whose removal worked without the engine's word for it.
        checks: all of checks, which nobody waits for when we have only just started. Tells what can't be removed.
        Raises ExecutorUnavailable."""
        left: list[str] = []
        for job_id in dict.fromkeys((*await self._executor.list_jobs(), *self._reservations.left_by)):
            try:
                if await self._over(job_id, checks=checks):
                    await self.remove(job_id)
            except (DmsError, OSError) as error:
                log.warning("container of job %s can't be removed: %s", job_id, error, extra={"job_id": job_id})
                if isinstance(error, ExecutorUnavailable):
                    await self._executor.check()  # is it the engine that is away, or only this job that is stuck?
                with stays_if_unread(f"what container {job_id} holds"):
                    self._occupy(job_id)
                left.append(job_id)
        return left

    def _occupy(self, job_id: str) -> None:
        """A job that is over, and whose container may still use its memory."""
        if (deployment := self._log.load(Deployment, job_id)) is not None and deployment.ended:
            self._reservations.occupy(job_id, deployment.reserved.memory_mb)

    async def _over(self, job_id: str, *, checks: bool) -> bool:
        if job_id.startswith(CHECK_PREFIX):
            return checks or job_id not in self._reservations
        deployment = self._log.load(Deployment, job_id)
        if deployment is not None:
            return deployment.ended
        return (await self._executor.inspect(job_id)).state is not ExecutionState.RUNNING


class RemoveContainers(Reactor[Deployment]):
    """As soon as their deployments have ended."""

    name = "removal of containers"
    kind = Deployment
    topics = (Deployment.ContainerExited.TOPIC, Deployment.Failed.TOPIC, Deployment.Stopped.TOPIC)
    recorded = False

    def __init__(self, leftovers: Leftovers, engine: EngineWatch) -> None:
        self._leftovers, self._engine = leftovers, engine

    def due(self, aggregate: Deployment) -> bool:
        return aggregate.ended

    async def react(self, aggregate: Deployment, news: News) -> None:
        job_id = aggregate.key
        try:
            await self._leftovers.remove(job_id)
        except (ExecutorUnavailable, ExecutionError) as error:
            self._engine.owe_sweep()
            log.warning(
                "container of job %s can't be removed yet, it is tried again: %s",
                job_id,
                error,
                extra={"job_id": job_id},
            )

    async def give_up(self, aggregate: Deployment, error: Exception) -> None:
        self._engine.owe_sweep()
