"""Runs each accepted deployment's container, from the image to the end.

What the log does not say happened is done, or found done (a container carries its job's id), and recorded. So a crash
is a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from msgspec.structs import replace

from dms.application.deployments.admission import Admission, fault_of
from dms.application.deployments.endings import Endings
from dms.application.deployments.furnishing import Furnishing
from dms.application.deployments.supervision import Supervision
from dms.application.device.device import DeviceService
from dms.application.device.engine import ENGINE_GRACE_SECONDS
from dms.application.device.network import NetworkWatch
from dms.application.loops import said
from dms.application.payments.funding import request_of
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import ExecutionState, Executor
from dms.application.reactors import News, Reactor
from dms.application.secret_environment import open_secrets
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.run_time import Instant, began
from dms.errors import (
    ExecutionError,
    ExecutorUnavailable,
    GpuUnavailable,
    NetworkUnavailable,
)

T = TypeVar("T")

ENGINE_RETRY_SECONDS = 1.0
TO_BE_RUN = (DeploymentState.ACCEPTED, DeploymentState.CREATED)
HELD = (*TO_BE_RUN, DeploymentState.RUNNING, DeploymentState.STOPPING)


class RunContainers(Reactor[Deployment]):
    name = "running of containers"
    kind = Deployment

    def __init__(
        self,
        log: EventLog,
        executor: Executor,
        device: DeviceService,
        network: NetworkWatch,
        furnishing: Furnishing,
        supervision: Supervision,
        endings: Endings,
        admission: Admission,
        clock: Callable[[], Instant],
    ) -> None:
        """clock: of this machine."""
        self._log, self._executor, self._device, self._network, self._clock = log, executor, device, network, clock
        self._furnishing, self._supervision = furnishing, supervision
        self._endings, self._admission = endings, admission
        # Job id -> when the engine went away, by the loop's clock. Not an event: a restart gives it the grace anew.
        self._away_since: dict[str, float] = {}

    def due(self, aggregate: Deployment) -> bool:
        return aggregate.state in HELD

    async def react(self, aggregate: Deployment, news: News) -> None:
        job_id = aggregate.key
        try:
            await self._step(aggregate, news)
        except GpuUnavailable as error:
            self._device.distrust_gpus(str(error))
            await self._endings.fail(job_id, str(error), Fault.PROVIDER)
        except NetworkUnavailable as error:
            await self._network.distrust(str(error))
            await self._endings.fail(job_id, str(error), Fault.PROVIDER)
        except ExecutionError as error:
            await self._endings.fail(job_id, str(error), fault_of(error))
        except ExecutorUnavailable as error:
            await self._wait_for_engine(job_id, error, news)
            return
        self._away_since.pop(job_id, None)

    async def give_up(self, aggregate: Deployment, error: Exception) -> None:
        self._away_since.pop(aggregate.key, None)
        await self._endings.break_off(aggregate.key, f"the provider failed to run it: {said(error)}")

    async def _step(self, deployment: Deployment, news: News) -> None:
        if deployment.state is DeploymentState.ACCEPTED:
            await self._create(deployment, news)
        elif deployment.state is DeploymentState.CREATED:
            await self._start(deployment, news)
        elif deployment.state is DeploymentState.STOPPING:
            await self._supervision.stop(deployment.key, news)
        else:
            await self._supervision.supervise(deployment.key, news)

    async def _create(self, deployment: Deployment, news: News) -> None:
        job_id, spec = deployment.key, self._admission.spec_of(deployment)
        secrets = open_secrets(self._log, job_id, request_of(deployment))
        image = await self._unless_stopped(job_id, self._executor.prepare(spec), news)
        if image is None:
            return
        if objection := self._device.objection_to_image(spec.image, image.digest):  # a list may tell only by the digest
            await self._endings.fail(job_id, objection, Fault.PROVIDER)
            return
        deployment = self._endings.load(job_id)
        deployment.image_pulled(image.digest, image.image, image.image_id, fetched=image.fetched)
        await self._log.save(deployment)
        await self._unless_stopped(job_id, self._furnishing.furnish(deployment, spec), news)
        if self._endings.load(job_id).state is not DeploymentState.ACCEPTED:
            return
        container_id = await self._executor.create(replace(spec, secrets=secrets))
        deployment = self._endings.load(job_id)
        if deployment.state is DeploymentState.ACCEPTED:
            deployment.container_created(container_id, self._executor.name)
            await self._log.save(deployment)

    async def _start(self, deployment: Deployment, news: News) -> None:
        job_id = deployment.key
        furnishing = self._furnishing.furnish(deployment, self._admission.spec_of(deployment))
        await self._unless_stopped(job_id, furnishing, news)  # a reboot empties workspaces
        found = await self._executor.inspect(job_id)
        if self._endings.load(job_id).state is not DeploymentState.CREATED:
            return
        asked = self._clock() if found.state is ExecutionState.CREATED else None
        await self._executor.start(job_id, open_secrets(self._log, job_id, request_of(deployment)))
        execution = await self._executor.inspect(job_id)
        if execution.state is ExecutionState.ABSENT:
            await self._supervision.conclude(job_id)
            return
        started = began(
            self._clock(), asked=asked, started_at=execution.started_at, started_boot_us=execution.started_boot_us
        )
        deployment = self._endings.load(job_id)
        if deployment.state is DeploymentState.CREATED:
            deployment.container_started(execution.started_at or started.wall_us, started.boot_id, started.boot_us)
            await self._log.save(deployment)
        await self._furnishing.started(job_id)

    async def _unless_stopped(self, job_id: str, work: Coroutine[Any, Any, T], news: News) -> T | None:
        """The work's result; None when the job was told to stop meanwhile, which ends the work."""
        return await news.during(work, lambda: self._endings.load(job_id).state in TO_BE_RUN, f"preparing {job_id}")

    async def _wait_for_engine(self, job_id: str, error: ExecutorUnavailable, news: News) -> None:
        """Ends it when the engine has been away for too long."""
        now = asyncio.get_running_loop().time()
        if now - self._away_since.setdefault(job_id, now) <= ENGINE_GRACE_SECONDS:
            await news.changed(ENGINE_RETRY_SECONDS)
            return
        await self._supervision.conclude_without_engine(job_id, f"the provider's container engine is away: {error}")
        self._away_since.pop(job_id, None)
