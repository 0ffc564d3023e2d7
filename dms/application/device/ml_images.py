"""The original's ready-made images for machine learning: fetched ahead of the jobs, and used to check a GPU."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import Struct

from dms.application.device.device import DeviceService
from dms.application.ports.executor import ExecutionSpec, ExecutionState, Executor
from dms.application.ports.images import ImageStore, PullProgress
from dms.domain.event import new_id
from dms.domain.gpus import as_recorded
from dms.domain.resources import Gpu, Resources
from dms.errors import Conflict, ImageUnavailable, NotFound

PROJECT = "registry.gitlab.com/nunet/ml-on-gpu"
TENSORFLOW = "ml-on-gpu-service/develop/tensorflow"
PYTORCH = "ml-on-gpu-service/develop/pytorch"
ON_CPU = "ml-on-cpu-service/develop/ml-on-cpu"
CUDA_CHECK = ("python", "check-cuda-and-tensor-cores-availability.py")  # comes with PYTORCH

CHECK_PREFIX = "gpu-check-"  # of the containers' job ids
CHECK_SECONDS = 120.0
CHECK_MEMORY_MB = 4096
MOST_LINES = 1000
NO_ENGINE = "images are only used with Docker, and this DMS runs jobs without it (see job.executor)"


class ImageState(Struct, frozen=True, kw_only=True):
    image: str
    present: bool


class GpuCheck(Struct, frozen=True, kw_only=True):
    """exit_code: 0 when the image found CUDA on the GPUs. output: at most MOST_LINES lines."""

    image: str
    gpu_uuids: tuple[str, ...]
    exit_code: int
    output: tuple[str, ...]


class MlImages:
    def __init__(
        self,
        device: DeviceService,
        executor: Executor,
        images: ImageStore | None,
        node_id: str,
        project: str = PROJECT,
    ) -> None:
        """images: None where the executor has none. project: where the images are, a registry and a path."""
        self._device, self._executor, self._images, self._node_id = device, executor, images, node_id
        self._tensorflow, self._pytorch, self._on_cpu = (f"{project}/{name}" for name in (TENSORFLOW, PYTORCH, ON_CPU))

    async def listed(self) -> tuple[ImageState, ...]:
        """What jobs on this machine will want: those for GPUs only where there is one. Raises Conflict
        without an engine, ExecutorUnavailable when it is away."""
        store = self._store()
        on_gpu = (self._tensorflow, self._pytorch) if await self._device.see_gpus() else ()
        return tuple([ImageState(image=image, present=await store.has(image)) for image in (*on_gpu, self._on_cpu)])

    async def fetch(self) -> AsyncGenerator[PullProgress, None]:
        """Pulls what is missing, one after the other. An image that can't be had is told and does not
        stop the others. Ends early when it is closed."""
        store = self._store()
        for wanted in await self.listed():
            try:
                async with aclosing(store.pull(wanted.image)) as steps:
                    async for step in steps:
                        yield step
            except ImageUnavailable as error:
                yield PullProgress(image=wanted.image, status="failed", error=str(error))

    async def check_cuda(self) -> GpuCheck:
        """Runs the check that comes with PYTORCH, on all GPUs that nothing uses; they are held meanwhile.
        Raises NotFound without GPU or image, Conflict when all GPUs are in use, GpuUnavailable."""
        store = self._store()
        readings = await self._device.see_gpus()
        if not readings:
            raise NotFound("no NVIDIA GPU is detected on this machine; see: nunet gpu onboard")
        if not await store.has(self._pytorch):
            raise NotFound(
                f"the image of the check, {self._pytorch}, is not on this machine; fetch it: nunet onboard-ml"
            )
        # No wait from here to the hold: a job could be granted the same GPUs.
        left = self._device.reservations.left_of(as_recorded(reading) for reading in readings)
        free = [gpu for gpu in left if not (gpu.taken or gpu.shared)]
        if not free:
            raise Conflict("all GPUs of this machine are in use; try again when a job has ended")
        return await self._run(free)

    async def _run(self, gpus: list[Gpu]) -> GpuCheck:
        uuids = tuple(gpu.uuid for gpu in gpus)
        spec = ExecutionSpec(
            job_id=CHECK_PREFIX + new_id(),
            node_id=self._node_id,
            image=self._pytorch,
            arguments=CUDA_CHECK,
            cpu_mhz=self._device.capacity().cpu_mhz,
            memory_mb=CHECK_MEMORY_MB,
            gpu_uuids=uuids,
        )
        self._device.reservations.hold(spec.job_id, Resources(), uuids)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._follow(spec)
        except TimeoutError as error:
            raise Conflict(f"the check did not end within {CHECK_SECONDS:g} s; its container was removed") from error
        finally:
            self._device.reservations.release(spec.job_id)
            await self._executor.remove(spec.job_id)

    async def _follow(self, spec: ExecutionSpec) -> GpuCheck:
        await self._executor.prepare(spec)
        await self._executor.create(spec)
        await self._executor.start(spec.job_id)
        output: list[str] = []
        async with aclosing(self._executor.follow(spec.job_id, None)) as batches:
            async for lines in batches:
                output += [line.text for line in lines][: MOST_LINES - len(output)]
        execution = await self._executor.inspect(spec.job_id)
        if execution.state is not ExecutionState.EXITED or execution.exit_code is None:
            raise Conflict(f"the check's container is gone: {execution.error or 'it was removed from outside'}")
        return GpuCheck(image=spec.image, gpu_uuids=spec.gpu_uuids, exit_code=execution.exit_code, output=tuple(output))

    def _store(self) -> ImageStore:
        if self._images is None:
            raise Conflict(NO_ENGINE)
        return self._images
