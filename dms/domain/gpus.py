"""Which GPUs of a device a job gets. Pure. The one place where that is decided: a service provider matches
with it, a compute provider grants with it.

A job has its GPUs alone unless it says that it shares; then it sits only with others that share, each
within the memory that it asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from dms.domain.resources import Gpu

NOTABLE_MB = 256  # a smaller change of a GPU's free memory is no news to the network
NOTABLE_PART = 20  # nor is a change of less than this part (a twentieth) of its memory


class GpuWish(Struct, frozen=True, kw_only=True, gc=False):
    """vram_mb: of each of them."""

    count: int
    vram_mb: int = 0
    shared: bool = False

    def __str__(self) -> str:
        what = f"{self.count} GPU{'s' if self.count > 1 else ''}{' to share' if self.shared else ''}"
        return f"{what} with {self.vram_mb} MB free{' each' if self.count > 1 else ''}" if self.vram_mb else what


class GpuReading(Struct, frozen=True, kw_only=True, gc=False):
    """What the driver says of one GPU now. Memory in MiB; None: this driver or card can't tell.
    compute_processes: how many programs compute on it, those of jobs included."""

    name: str
    uuid: str
    vendor: str  # "nvidia"
    total_vram_mb: int
    used_vram_mb: int
    free_vram_mb: int
    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    compute_processes: int | None = None


class GpuHold(Struct, frozen=True, kw_only=True, gc=False):
    """What one job holds of one GPU. vram_mb: its share, when shared."""

    shared: bool
    vram_mb: int


def vram_total(gpus: Iterable[Gpu]) -> int:
    return sum(gpu.total_vram_mb for gpu in gpus)


def vram_offered(gpus: Iterable[Gpu]) -> int:
    """What nothing outside of the DMS uses."""
    return sum(gpu.free_vram_mb for gpu in gpus)


def as_recorded(reading: GpuReading, *, usable: bool = True) -> Gpu:
    """Of a GPU that no job holds: whatever is in use there is in use by something outside. A program
    that computes on it takes all of it; a screen takes only its memory."""
    taken = bool(reading.compute_processes) or not usable
    return Gpu(
        name=reading.name,
        uuid=reading.uuid,
        total_vram_mb=reading.total_vram_mb,
        free_vram_mb=0 if taken else min(reading.free_vram_mb, reading.total_vram_mb),
        taken=taken,
    )


def recorded_anew(
    recorded: Sequence[Gpu], readings: Iterable[GpuReading], held: Iterable[str], *, usable: bool = True
) -> tuple[Gpu, ...]:
    """What should be on record after a reading, by uuid; equal to `recorded` when nothing notable changed.
    usable: whether containers can be given GPUs here. held: uuids of the GPUs that jobs hold; they stay as
    they were, for what is outside of a job can't be told from the job there. So does a card that was lost
    under a job, which still has to end."""
    before, keep = {gpu.uuid: gpu for gpu in recorded}, set(held)
    after = {uuid: gpu for uuid, gpu in before.items() if uuid in keep}
    for reading in readings:
        known, new = before.get(reading.uuid), as_recorded(reading, usable=usable)
        if reading.uuid not in after:
            after[reading.uuid] = known if known is not None and not _is_news(known, new) else new
    return tuple(after[uuid] for uuid in sorted(after))


def _is_news(known: Gpu, new: Gpu) -> bool:
    if msgspec.structs.replace(known, free_vram_mb=new.free_vram_mb) != new:
        return True
    change = abs(known.free_vram_mb - new.free_vram_mb)
    return change >= min(NOTABLE_MB, max(new.total_vram_mb // NOTABLE_PART, 1))


def left_of(gpus: Iterable[Gpu], holds: Mapping[str, Sequence[GpuHold]]) -> tuple[Gpu, ...]:
    """The GPUs with what jobs leave of them. holds: uuid -> the jobs' holds."""
    return tuple(_left(gpu, holds.get(gpu.uuid, ())) for gpu in gpus)


def _left(gpu: Gpu, holds: Sequence[GpuHold]) -> Gpu:
    if not holds:
        return gpu
    if not all(hold.shared for hold in holds):
        return msgspec.structs.replace(gpu, free_vram_mb=0, taken=True)
    free = max(0, gpu.free_vram_mb - sum(hold.vram_mb for hold in holds))
    return msgspec.structs.replace(gpu, free_vram_mb=free, shared=True)


def there_now(gpus: Iterable[Gpu], readings: Iterable[GpuReading]) -> tuple[Gpu, ...]:
    """Those of `gpus` that the driver still has, with no more memory than is really free."""
    live = {reading.uuid: reading for reading in readings}
    return tuple(
        msgspec.structs.replace(gpu, free_vram_mb=min(gpu.free_vram_mb, live[gpu.uuid].free_vram_mb))
        for gpu in gpus
        if gpu.uuid in live
    )


def fitting(gpus: Iterable[Gpu], wish: GpuWish) -> list[Gpu]:
    """Those that one GPU of the wish could be. gpus: with what is left of them."""
    return [
        gpu
        for gpu in gpus
        if not gpu.taken and (wish.shared or not gpu.shared) and gpu.free_vram_mb >= wish.vram_mb and gpu.uuid
    ]


def choose(gpus: Iterable[Gpu], wish: GpuWish) -> tuple[Gpu, ...]:
    """The GPUs for a wish, or none when there are too few. gpus: with what is left of them.
    The smallest that fit, so that large ones stay for jobs that need them; who shares goes first to where
    sharing is; ties go to the lower uuid."""
    found = fitting(gpus, wish)
    found.sort(key=lambda gpu: (not gpu.shared, gpu.total_vram_mb, gpu.uuid))
    return tuple(found[: wish.count]) if len(found) >= wish.count else ()
