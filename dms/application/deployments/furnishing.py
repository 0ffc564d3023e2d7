"""What a job finds in its workspace when it starts: what a checkpoint brought, and its inputs."""

from __future__ import annotations

from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper
from dms.application.inputs.input_keeper import InputKeeper
from dms.application.ports.executor import ExecutionSpec
from dms.domain.deployment import Deployment


class Furnishing:
    def __init__(self, checkpoints: CheckpointKeeper, inputs: InputKeeper) -> None:
        self._checkpoints, self._inputs = checkpoints, inputs

    def refusal(self, deployment: Deployment) -> str:
        """Why it can't have what it asks for here, as far as that can be told at once; empty when it can."""
        request = deployment.request
        if request is None:
            return ""
        resume_job = request.params.resume_job
        wanted = resume_job is not None and resume_job.resume
        return self._checkpoints.refusal(deployment.resume, wanted=wanted) or self._inputs.refusal(request)

    async def furnish(self, deployment: Deployment, spec: ExecutionSpec) -> None:
        """Safe to repeat: what is there stays. Raises ExecutionError, ExecutorUnavailable, DiskTrouble."""
        await self._checkpoints.restore(deployment, spec)
        await self._inputs.provide(deployment, spec)

    async def started(self, job_id: str) -> None:
        """The workspace has it all, and can't be filled again."""
        await self._inputs.forget(job_id)

    async def forget(self, job_id: str) -> None:
        """What a job that is over began with."""
        self._checkpoints.forget(job_id)
        await self._inputs.forget(job_id)

    async def tidy(self) -> None:
        """What a crash left."""
        await self._inputs.tidy()
