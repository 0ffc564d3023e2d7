"""How a deployment's end is recorded: behind its results, its last checkpoint and its sealed output. Output that can't
be kept here holds no end up for ever: after a while the end is recorded without a seal."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper
from dms.application.files.disk_patience import DISK_SECONDS
from dms.application.lasting import Lasting
from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import OutputStore, SealedLog
from dms.application.results.results_keeper import ResultsKeeper
from dms.domain.deployment import Deployment, Fault
from dms.errors import DmsError, NotFound, OutputUnavailable

log = logging.getLogger(__name__)


class Endings:
    def __init__(
        self, event_log: EventLog, outputs: OutputStore, checkpoints: CheckpointKeeper, results: ResultsKeeper
    ) -> None:
        self._log, self._outputs, self._checkpoints, self._results = event_log, outputs, checkpoints, results
        self._trouble = Lasting()
        self._without_output = set[str]()  # ids of jobs whose output is given up

    async def record(self, job_id: str, decide: Callable[[Deployment], None]) -> None:
        """Saves the results and the workspace, seals the output, then records the end; the capacity is free with it."""
        if self.load(job_id).stops_at:  # it was started
            await self._checkpoints.save_last(job_id, await self._results.save(job_id))
        sealed = await self._sealed(job_id)
        deployment = self.load(job_id)
        if deployment.ended:
            return
        if sealed is not None:
            deployment.seal_log(sealed.lines, sealed.sha256, sealed.truncated)
        decide(deployment)
        await self._log.save(deployment)
        self.output_works(job_id)

    async def _sealed(self, job_id: str) -> SealedLog | None:
        """None when it is given up. Raises LogUnavailable."""
        try:
            return None if job_id in self._without_output else await self._outputs.seal(job_id)
        except OutputUnavailable as error:
            if not self.output_waits_too_long(job_id):
                raise
            self.give_up_output(job_id, error)
            return None

    def output_waits_too_long(self, job_id: str) -> bool:
        """Said of output that can't be kept now: whether that has lasted so long that nothing waits for it."""
        return self._trouble.has_lasted(job_id, DISK_SECONDS)

    def give_up_output(self, job_id: str, error: OutputUnavailable) -> None:
        self._without_output.add(job_id)
        log.error("the output of job %s is given up: %s", job_id, error, extra={"job_id": job_id})

    def output_works(self, job_id: str) -> None:
        self._trouble.forget(job_id)
        self._without_output.discard(job_id)

    async def fail(self, job_id: str, reason: str, fault: Fault) -> None:
        await self.record(job_id, lambda deployment: deployment.fail(reason, fault))

    async def break_off(self, job_id: str, reason: str) -> None:
        """As our fault, whatever of it still works: what can't be sealed does not keep the job open."""
        try:
            sealed = await self._outputs.seal(job_id)
        except (DmsError, OSError) as error:
            sealed = None
            log.error("the output of job %s is not sealed: %s", job_id, error, extra={"job_id": job_id})
        self.output_works(job_id)  # nothing waits for it any more
        deployment = self.load(job_id)
        if deployment.ended:
            return
        if sealed is not None:
            deployment.seal_log(sealed.lines, sealed.sha256, sealed.truncated)
        deployment.fail(reason, Fault.PROVIDER)
        await self._log.save(deployment)

    def load(self, job_id: str) -> Deployment:
        """Raises NotFound."""
        deployment = self._log.load(Deployment, job_id)
        if deployment is None:
            raise NotFound(f"no deployment of job {job_id} here")
        return deployment
