"""What an image's VOLUME lines ask for, and how each gets room that is bounded.

The engine would give each a folder of the host's disk, without a quota, and copy what the image holds there. It does
so for every path that nothing else is mounted on, compared letter by letter once it has cleaned it: another spelling
of a path that is taken gets a folder again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.types import DriverConfig, Mount

from dms.adapters.executors.containers import IMAGE_COPY
from dms.adapters.executors.profile import WORKSPACE, labels
from dms.application.ports.executor import ExecutionSpec
from dms.domain.image import ImageReference
from dms.errors import ImageUnavailable

MOST_VOLUMES = 32
MOST_PATH_BYTES = 1_024
_KERNEL = ("/proc", "/sys", "/dev")


def clean_path(path: str) -> str:
    """As the engine cleans it: Go's filepath.Clean. Python's keeps two slashes at the beginning."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def volume_paths(reference: ImageReference, written: Iterable[str]) -> tuple[str, ...]:
    """Of an image's VOLUME lines, each once, the outer before what lies in it. Raises ImageUnavailable for one that
    can't be given room."""
    paths = sorted({clean_path(path) for path in written})
    for path in paths:
        if trouble := _trouble(path):
            raise ImageUnavailable(f"image {reference} has the VOLUME {path[:200]!r}, which {trouble}")
    if len(paths) > MOST_VOLUMES:
        raise ImageUnavailable(
            f"image {reference} has {len(paths)} VOLUMEs; this provider gives at most {MOST_VOLUMES}"
        )
    return tuple(paths)


def _trouble(path: str) -> str:
    if not path.startswith("/"):
        return "is not an absolute path: the engine can't mount anything there"
    if path == "/" or any(is_below(path, kernel) for kernel in _KERNEL):
        return "is the system's own: no volume can be there"
    if len(path.encode("utf-8", "surrogatepass")) > MOST_PATH_BYTES or not path.isprintable():
        return f"has unprintable characters or more than {MOST_PATH_BYTES} bytes"
    return ""


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def copied_paths(volumes: Iterable[str], working_folder: str) -> tuple[str, ...]:
    """Paths whose content in the image a job finds in its own room: those of its VOLUMEs, and of the workspace where
    the image says that its work is there."""
    works_there = is_below(clean_path(working_folder or "/"), WORKSPACE)
    return tuple(sorted({*volumes, *([WORKSPACE] if works_there else [])}))


def copier_config(
    api: APIClient, spec: ExecutionSpec, image_id: str, mounts: list[Mount], others: Iterable[str]
) -> dict[str, Any]:
    """Of a container that is only created, never started: creating it, the engine copies the image's content of each
    mounted path into its volume, with owners and modes. others: VOLUMEs that nothing is wanted of."""
    return dict(
        api.create_container_config(
            image=image_id,
            command=["true"],
            labels=labels(spec, part=IMAGE_COPY),
            host_config=api.create_host_config(
                network_mode="none", read_only=True, mounts=mounts, tmpfs=dict.fromkeys(others, "size=1m")
            ),
        )
    )


def volume_in(path: str, folder: Path) -> Mount:
    """A volume of a folder of this host, at that path of a container."""
    options = {"type": "none", "o": "bind", "device": str(folder)}
    return Mount(path, None, type="volume", driver_config=DriverConfig("local", options))
