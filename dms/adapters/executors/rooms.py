"""The rooms of containers: each job's workspace on the host, and what its image holds at its VOLUMEs, copied there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dms.adapters.executors.containers import Containers
from dms.adapters.executors.engine_images import image_volumes
from dms.adapters.executors.images import parse_reference
from dms.adapters.executors.profile import UNPRIVILEGED, WORKSPACE, workspace_mb
from dms.adapters.executors.threads import stoppable
from dms.adapters.executors.volumes import Room, copied_paths, copier_config, is_below
from dms.adapters.executors.workspace_archive import Owner
from dms.adapters.executors.workspaces import Workspaces
from dms.application.ports import ExecutionSpec
from dms.errors import ExecutionError, ExecutorUnavailable

logger = logging.getLogger(__name__)


class Rooms:
    """workspaces: None where each is inside of its container, without checkpoints. image_user: jobs run as the user
    that their image names."""

    def __init__(self, workspaces: Workspaces | None, containers: Containers, *, image_user: bool) -> None:
        self._workspaces, self._containers, self._image_user = workspaces, containers, image_user
        self._told_trouble = False

    def find(self, job_id: str) -> Path | None:
        """The job's workspace, if it is ready."""
        return self._workspaces.find(job_id) if self._workspaces else None

    async def jobs(self) -> Sequence[str]:
        return await asyncio.to_thread(self._workspaces.jobs) if self._workspaces else ()

    async def remove(self, job_id: str) -> None:
        if self._workspaces is not None:
            await asyncio.to_thread(self._workspaces.remove, job_id)

    async def make(
        self, spec: ExecutionSpec, image: dict[str, Any], archive: Path | None = None, max_bytes: int = 0
    ) -> Room | None:
        """The host's folders for it and for the image's volumes, or None where there can't be any."""
        workspaces = self._workspaces
        if workspaces is None:
            return None
        if trouble := await asyncio.to_thread(workspaces.trouble):
            if not self._told_trouble:
                logger.warning("jobs have no checkpoints, and find nothing below an image's VOLUMEs: %s", trouble)
            self._told_trouble = True
            return None
        config, size_mb = image["Config"], workspace_mb(spec)
        volumes = image_volumes(parse_reference(spec.image), image)
        owner = self._owner(image)
        made = await asyncio.to_thread(workspaces.make, spec.job_id, size_mb, archive, max_bytes, owner)
        copied = copied_paths(volumes, str(config.get("WorkingDir") or ""))
        if copied and (begun := await asyncio.to_thread(workspaces.begin_volumes, spec.job_id, copied)) is not None:
            # What a checkpoint brought is newer than what the image holds.
            filled = {path: at for path, at in begun.items() if archive is None or not is_below(path, WORKSPACE)}
            await self._copy_from_image(spec, image["Id"], filled, [path for path in volumes if path not in filled])
            giving_to = None if self._image_user else owner
            await asyncio.to_thread(workspaces.settle_volumes, spec.job_id, filled, volumes, giving_to)
        return Room(made, workspaces.volumes(spec.job_id, copied))

    async def put(
        self, spec: ExecutionSpec, image: dict[str, Any], source: Path, place: str, unpack: str, max_bytes: int
    ) -> bool:
        """Whether the job has a workspace."""
        workspaces = self._workspaces
        if workspaces is None or workspaces.find(spec.job_id) is None:
            return False
        owner = self._owner(image)
        await stoppable(lambda stopped: workspaces.put(spec.job_id, source, place, unpack, max_bytes, owner, stopped))
        return True

    def _owner(self, image: dict[str, Any]) -> Owner:
        return owner_of(str(image["Config"].get("User") or "") if self._image_user else UNPRIVILEGED)

    async def _copy_from_image(
        self, spec: ExecutionSpec, image_id: str, folders: Mapping[str, Path], others: Sequence[str]
    ) -> None:
        if not folders or self._workspaces is None:
            return
        try:
            await self._containers.copy(spec.job_id, lambda api: copier_config(api, spec, image_id, folders, others))
        except (ExecutionError, ExecutorUnavailable) as error:
            if await asyncio.to_thread(self._workspaces.is_full, spec.job_id):
                raise ExecutionError(
                    f"what image {spec.image} holds below {', '.join(folders)} does not fit into {workspace_mb(spec)} "
                    "MiB, half of the job's memory: ask for more of it"
                ) from error
            raise


def owner_of(user: str) -> Owner:
    """Of an image's USER; a name can't be looked up without running the image, so it counts as root."""
    uid, _, gid = user.partition(":")
    return Owner(int(uid) if uid.isdecimal() else 0, int(gid) if gid.isdecimal() else 0)
