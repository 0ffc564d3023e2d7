"""What jobs hold of this machine, and what is free beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from dms.domain.gpus import GpuHold, GpuReading, GpuWish, choose, left_of, there_now, vram_offered
from dms.domain.resources import Gpu, Resources


class Held(Struct, frozen=True, kw_only=True, gc=False):
    """What one job holds. shared: it has its GPUs together with other jobs."""

    resources: Resources
    gpu_uuids: tuple[str, ...] = ()
    shared: bool = False

    @property
    def of_each_gpu(self) -> GpuHold:
        return GpuHold(shared=self.shared, vram_mb=self.resources.vram_mb // max(1, len(self.gpu_uuids)))


class Reservations:
    """What running deployments hold of the device: one entry a job. A fold of the deployments'
    events, kept beside the decisions so that two of them can't take the same capacity."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._left: dict[str, Resources] = {}  # by jobs that are over
        self.total = Resources()
        self.left = Resources()
        """What jobs that are over still take. It follows from what is on the machine, not from events, so it is no part
        of `total` and nobody is told of it, but for who is refused for it."""

    def hold(self, job_id: str, resources: Resources, gpu_uuids: Sequence[str] = (), *, shared: bool = False) -> None:
        self.clear(job_id)  # its end could not be recorded
        if job_id not in self._held:
            self._held[job_id] = Held(resources=resources, gpu_uuids=tuple(gpu_uuids), shared=shared)
            self.total += resources

    def release(self, job_id: str) -> None:
        held = self._held.pop(job_id, None)
        if held is not None:
            self.total -= held.resources

    def beside(self, others: Reservations, but: str = "") -> Reservations:
        """These and the others together. but: the job whose own hold does not count."""
        found = Reservations()
        for job_id, held in (*self._held.items(), *others._held.items()):
            if job_id != but:
                found.hold(job_id, held.resources, held.gpu_uuids, shared=held.shared)
        return found

    def leave(self, job_id: str, memory_mb: int) -> None:
        """The job is over, and what it left in its workspace still takes memory, until `clear`. A job that holds
        nothing leaves nothing."""
        if job_id in self._held:
            self.release(job_id)
            self.occupy(job_id, memory_mb)

    def occupy(self, job_id: str, memory_mb: int) -> None:
        """By what a job that is over left behind, until `clear`."""
        self.clear(job_id)
        self._left[job_id] = Resources(memory_mb=memory_mb)
        self.left += self._left[job_id]

    @property
    def left_by(self) -> Sequence[str]:
        """Ids of the jobs that are over and still take something."""
        return tuple(self._left)

    def clear(self, job_id: str) -> None:
        self.left -= self._left.pop(job_id, Resources())

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[str]:
        """Ids of the jobs that hold something."""
        return iter(tuple(self._held))

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._held

    def gpu_jobs(self) -> dict[str, tuple[str, ...]]:
        """uuid -> the jobs that hold that GPU."""
        found: dict[str, list[str]] = {}
        for job_id, held in self._held.items():
            for uuid in held.gpu_uuids:
                found.setdefault(uuid, []).append(job_id)
        return {uuid: tuple(jobs) for uuid, jobs in found.items()}

    def left_of(self, gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
        """The GPUs on record, with what the jobs leave of them."""
        holds: dict[str, list[GpuHold]] = {}
        for held in self._held.values():
            for uuid in held.gpu_uuids:
                holds.setdefault(uuid, []).append(held.of_each_gpu)
        return left_of(gpus, holds)

    def free_gpus(self, gpus: Sequence[Gpu], readings: Iterable[GpuReading], wish: GpuWish) -> tuple[Gpu, ...]:
        """The GPUs for a job, or none when the wish can't be met. gpus: on record; readings: of now."""
        return choose(there_now(self.left_of(gpus), readings), wish)


def vram_to_reserve(recorded: Iterable[Gpu], chosen: Iterable[Gpu], wish: GpuWish) -> int:
    """MB over all chosen GPUs: what was asked for where they are shared, else all that is offered of them."""
    uuids = {gpu.uuid for gpu in chosen}
    if wish.shared:
        return wish.vram_mb * len(uuids)
    return vram_offered(gpu for gpu in recorded if gpu.uuid in uuids)
