"""The executor `docker`: one hardened container per job, found again by its labels and the engine's id.

Everything may be repeated, also by the next process after a crash: Docker starts an exited container again if asked,
so `start` only ever starts a `created` one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence, Set
from contextlib import aclosing
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from docker import APIClient

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.canary import SandboxTrials
from dms.adapters.executors.containers import UNTIL_KILLED_SECONDS, Containers, execution_of
from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.driver_errors import our_errors_only
from dms.adapters.executors.engine import DEFAULT_BASE_URL, Engine, EngineAddress, engine_address
from dms.adapters.executors.engine_attach import Attached
from dms.adapters.executors.engine_images import EngineImages, image_volumes
from dms.adapters.executors.engine_memory import EngineMemory
from dms.adapters.executors.engine_output import OUTPUT_LOST, OutputReader
from dms.adapters.executors.engine_stats import usage_of
from dms.adapters.executors.engine_words import NO_GPU
from dms.adapters.executors.gateways import Gateways
from dms.adapters.executors.helper_image import HelperImage
from dms.adapters.executors.holders import Holders
from dms.adapters.executors.images import parse_reference
from dms.adapters.executors.job_ids import check_job_id
from dms.adapters.executors.network_trial import NetworkTrial
from dms.adapters.executors.profile import (
    LABEL_NETWORK,
    MIB,
    container_config,
    stop_signal,
    too_little,
    workspace_mb,
)
from dms.adapters.executors.rooms import Rooms
from dms.adapters.executors.rooms import Workspaces as AnyWorkspaces
from dms.adapters.executors.runtimes import Runtimes
from dms.adapters.executors.who_ended import WhoEnded
from dms.adapters.executors.workspaces import Workspaces
from dms.adapters.executors.workspaces_engine import EngineWorkspaces
from dms.adapters.executors.workspaces_host import HostWorkspaces
from dms.application.growing_lines import GrowingLine
from dms.application.ports.executor import (
    NO_SECRETS,
    Execution,
    ExecutionSpec,
    ExecutionState,
    InputFile,
    NetworkGiven,
    NetworkUse,
    PackedWorkspace,
    SandboxTrial,
    Secrets,
)
from dms.application.ports.images import ImageFound, PreparedImage, PullProgress, at_will
from dms.application.ports.machine import Usage
from dms.application.ports.outputs import OutputCursor, OutputLine
from dms.domain.engine_facts import EngineFacts
from dms.domain.network import Network
from dms.domain.results import EVERYTHING, Selection
from dms.domain.run_end import EndedBy
from dms.errors import (
    ExecutionError,
    ExecutorUnavailable,
    GpuUnavailable,
    ImageUnavailable,
    NetworkUnavailable,
    NoPlaceForInput,
)

__all__ = ["DEFAULT_BASE_URL", "OUTPUT_LOST", "DockerExecutor", "DockerSettings"]


@our_errors_only
class DockerExecutor:
    """node_id: only containers with this label are ours. Close it when done."""

    name = "docker"

    def __init__(self, node_id: str, settings: DockerSettings) -> None:
        address = engine_address(settings.base_url)
        self._settings = settings
        self._calls = EngineCalls(address, settings.call_seconds, settings.work_seconds)
        engine = Engine(address, settings.call_seconds)
        self._images = EngineImages(settings, self._calls, engine)
        self._containers = Containers(node_id, self._calls, engine)
        self._memory = EngineMemory(node_id, self._calls, engine)
        self._who_ended = WhoEnded(self._memory)
        self._attached = Attached(self._containers, self._calls, engine)
        self._output = OutputReader(self._containers, self._memory, self._calls, engine, settings.quiet_seconds)
        self._rooms = _rooms(node_id, settings, address, self._calls, self._containers)
        self._runtimes = Runtimes(self._calls, settings.runtime)
        self._gateways = Gateways(node_id, self._calls, settings.gateways)
        self._trial = NetworkTrial(node_id, self._calls, self._gateways)
        self._sandbox = SandboxTrials(
            node_id, self._calls, self._containers, self._runtimes, settings.limits, settings.sandbox_accept
        )
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # job id -> while it is waited for

    def objection(self, spec: ExecutionSpec) -> str:
        try:
            self._settings.policy.check(parse_reference(spec.image))
        except ImageUnavailable as error:
            return str(error)
        return too_little(spec, self._settings.limits)

    async def check(self) -> None:
        """Raises ExecutorUnavailable, naming the socket, when the daemon does not answer, and when it lacks what jobs
        are to run in."""
        await self._calls.ask("answer a ping", APIClient.ping)
        await self._runtimes.check()

    async def try_network(self) -> NetworkGiven:
        if self._settings.network == "none":
            return NetworkGiven(network=Network.NONE, reason="job.network is none")
        return await self._trial.result()

    async def try_sandbox(self) -> SandboxTrial:
        return await self._sandbox.result()

    async def engine_facts(self) -> EngineFacts | None:
        return await self._sandbox.facts()

    async def network_use(self, job_id: str) -> NetworkUse | None:
        mark = _gateway_of(await self._containers.find(job_id))
        if not mark:
            return None
        received, sent = await self._gateways.traffic(mark)
        return NetworkUse(
            received_bytes=received,
            sent_bytes=sent,
            most_bytes=self._settings.gateways.max_mb * MIB,
            trouble=await self._gateways.trouble(mark),
        )

    # --- images ---

    async def find_image(
        self, image: str, *, for_stranger: bool = False, may_ask: Callable[[], bool] = at_will
    ) -> ImageFound:
        return await self._images.find_anywhere(parse_reference(image), for_stranger=for_stranger, may_ask=may_ask)

    async def prepare(self, spec: ExecutionSpec) -> PreparedImage:
        return await self._images.prepare(parse_reference(spec.image), for_stranger=spec.for_stranger)

    async def has(self, image: str) -> bool:
        return await self._images.find(parse_reference(image)) is not None

    async def pull(self, image: str) -> AsyncGenerator[PullProgress, None]:
        """Fetches an image ahead of any job, under the same policy."""
        async with aclosing(self._images.pull(parse_reference(image), image)) as told:
            async for progress in told:
                yield progress

    async def remove_superseded(self, image: str, image_ids: Sequence[str]) -> Sequence[str]:
        """Without force: the engine itself refuses to remove an image that a container has."""
        return await self._images.remove_superseded(image, image_ids)

    # --- workspaces ---

    async def fill(self, spec: ExecutionSpec, archive: Path | None, max_bytes: int) -> None:
        check_job_id(spec.job_id)
        image = await self._images.present(parse_reference(spec.image))
        async with self._lock(spec.job_id):
            if await self._rooms.make(spec, image, archive, max_bytes) is None and archive is not None:
                raise ExecutionError("this provider can't start a job from a checkpoint")

    def workspace_bytes(self, spec: ExecutionSpec) -> int | None:
        return workspace_mb(spec) * MIB

    async def put(self, spec: ExecutionSpec, given: InputFile) -> None:
        check_job_id(spec.job_id)
        image = await self._images.present(parse_reference(spec.image))
        async with self._lock(spec.job_id):
            if not await self._rooms.put(spec, image, given):
                raise NoPlaceForInput("this provider can't give a job inputs: there is no workspace to put them into")

    async def inputs_in(self, job_id: str) -> Set[int]:
        check_job_id(job_id)
        return await self._rooms.inputs_in(job_id)

    async def workspace_trouble(self) -> str:
        return await self._rooms.trouble()

    async def pack(
        self,
        job_id: str,
        into: Path,
        max_bytes: int,
        known_state: str = "",
        selection: Selection = EVERYTHING,
    ) -> PackedWorkspace | None:
        check_job_id(job_id)
        return await self._rooms.pack(job_id, into, max_bytes, known_state, selection)

    # --- containers ---

    async def create(self, spec: ExecutionSpec) -> str:
        """Runs the very image that is checked here, whatever its tag means a moment later."""
        check_job_id(spec.job_id)
        reference = parse_reference(spec.image)
        async with self._lock(spec.job_id):
            if (found := await self._containers.find(spec.job_id)) is not None:
                return str(found["Id"])
            image = await self._images.present(reference)
            await self._images.check(reference, image)
            volumes = image_volumes(reference, image)
            mounts = await self._rooms.make(spec, image) or ()
            limits = self._settings.limits
            runtime = await self._runtimes.of(spec)
            gateway = (await self._gateways.open(spec.job_id)).mark if spec.network is Network.INTERNET else ""
            return await self._containers.create(
                spec.job_id,
                lambda api: container_config(api, spec, limits, image, volumes, mounts, gateway, runtime),
            )

    async def start(self, job_id: str, secrets: Secrets = NO_SECRETS) -> None:
        """The engine has the secrets since the container was created."""
        self._memory.listen()
        async with self._lock(job_id):
            if (found := await self._containers.find(job_id)) is None:
                return
            execution = execution_of(found)
            wants_gpu = bool(found["HostConfig"].get("DeviceRequests"))
            if execution.error and not execution.started_at:
                raise _refused(f"job {job_id} can't start: {execution.error}", wants_gpu=wants_gpu)
            if execution.state is ExecutionState.CREATED:
                gateway = _gateway_of(found)
                await self._check(gateway)
                try:
                    await self._containers.start(job_id, str(found["Id"]))
                except ExecutionError as error:
                    await self._check(gateway)
                    raise _refused(str(error), wants_gpu=wants_gpu) from error
                await self._check(gateway, ending=job_id)  # it may have been restarted just before the job joined it

    async def _check(self, gateway: str, ending: str = "") -> None:
        """Raises NetworkUnavailable when the gateway with that mark is not what it was; then that job is over."""
        if not gateway or not (trouble := await self._gateways.trouble(gateway)):
            return
        if ending and (found := await self._containers.find(ending)) is not None:
            self._who_ended.stopped_by_us(ending)
            await self._containers.signal(str(found["Id"]), "SIGKILL")
        raise NetworkUnavailable(trouble)

    async def inspect(self, job_id: str) -> Execution:
        if (found := await self._containers.find(job_id)) is None:
            code = self._who_ended.exit_code_of_absent(job_id)
            return Execution(state=ExecutionState.ABSENT, exit_code=code, ended_by=EndedBy.OPERATOR)
        execution = execution_of(found)
        if execution.state is not ExecutionState.EXITED or not execution.started_at:
            return execution
        return await self._who_ended.told(job_id, found, execution)

    async def follow(self, job_id: str, after: OutputCursor | None) -> AsyncGenerator[Sequence[OutputLine], None]:
        self._memory.listen()
        async with aclosing(self._output.follow(job_id, after)) as told:
            async for lines in told:
                yield lines

    async def usage(self, job_id: str) -> Usage | None:
        found = await self._containers.find(job_id)
        if found is None or execution_of(found).state is not ExecutionState.RUNNING:
            return None
        return await usage_of(self._calls, str(found["Id"]))

    async def growing(self, job_id: str) -> AsyncGenerator[GrowingLine, None]:
        async with aclosing(self._attached.growing(job_id)) as lines:
            async for line in lines:
                yield line

    async def stop(self, job_id: str, grace_seconds: float) -> None:
        found = await self._containers.find(job_id)
        if found is None or execution_of(found).state is not ExecutionState.RUNNING:
            return
        container = str(found["Id"])
        self._who_ended.stopped_by_us(job_id)
        await self._containers.signal(container, stop_signal(found["Config"]))
        if await self._containers.exits_within(container, grace_seconds):
            return
        await self._containers.signal(container, "SIGKILL")
        if not await self._containers.exits_within(container, UNTIL_KILLED_SECONDS):
            raise ExecutorUnavailable(f"job {job_id} still runs {UNTIL_KILLED_SECONDS:g} s after SIGKILL")

    async def remove(self, job_id: str) -> None:
        async with self._lock(job_id):
            await self._containers.remove(job_id)
            await self._gateways.remove(job_id)
            await self._rooms.remove(job_id)
        self._who_ended.forget(job_id)

    async def list_jobs(self) -> Sequence[str]:
        gateways = set(await self._gateways.jobs()) - self._trial.running
        found = {*await self._containers.jobs(), *await self._rooms.jobs(), *gateways}
        return sorted(found - self._rooms.trials - self._sandbox.running)

    async def close(self) -> None:
        await asyncio.gather(self._trial.close(), self._sandbox.close())
        await self._memory.close()
        self._calls.close()

    def _lock(self, job_id: str) -> asyncio.Lock:
        return self._locks.setdefault(job_id, asyncio.Lock())


def _rooms(
    node_id: str, settings: DockerSettings, address: EngineAddress, calls: EngineCalls, containers: Containers
) -> Rooms:
    ways: list[AnyWorkspaces] = []
    image_user = settings.limits.image_user
    if settings.workspaces is not None:
        on_host = Workspaces(settings.workspaces, address.path)
        ways.append(HostWorkspaces(on_host, containers, image_user=image_user))
    if settings.workspace_volumes:
        holders, helper = Holders(address, calls, containers), HelperImage(calls)
        ways.append(EngineWorkspaces(node_id, calls, containers, holders, helper, image_user=image_user))
    return Rooms(ways, image_user=image_user)


def _gateway_of(found: dict[str, Any] | None) -> str:
    """The mark of the one that the job is in; empty for none."""
    return str((found or {}).get("Config", {}).get("Labels", {}).get(LABEL_NETWORK, ""))


def _refused(reason: str, *, wants_gpu: bool) -> ExecutionError:
    """The engine's refusal to start: a GPU that it can't give is not the job's fault."""
    if wants_gpu and NO_GPU in reason:
        return GpuUnavailable(
            "this provider's container engine can't give the job its GPU: is the NVIDIA Container Toolkit installed "
            f"and known to Docker there? ({reason})"
        )
    return ExecutionError(reason)
