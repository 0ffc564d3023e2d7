"""Workspaces on this host, for containers: see `workspaces` for what they are. What needs the engine is done here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from docker.types import Mount

from dms.adapters.executors.containers import Containers
from dms.adapters.executors.pack import pack
from dms.adapters.executors.profile import WORKSPACE, workspace_mb
from dms.adapters.executors.volumes import copier_config, is_below, volume_in
from dms.adapters.executors.workspace_archive import Owner
from dms.adapters.executors.workspaces import Workspaces
from dms.application.ports.executor import ExecutionSpec, InputFile, PackedWorkspace
from dms.domain.results import EVERYTHING, Selection
from dms.errors import ExecutionError, ExecutorUnavailable
from dms.long_work import long_work, stoppable


class HostWorkspaces:
    """image_user: jobs run as the user that their image names, and what it holds stays its own."""

    def __init__(self, workspaces: Workspaces, containers: Containers, *, image_user: bool) -> None:
        self._workspaces, self._containers, self._image_user = workspaces, containers, image_user

    trial = ""  # it needs no job

    async def trouble(self) -> str:
        return await asyncio.to_thread(self._workspaces.trouble)

    async def make(
        self,
        spec: ExecutionSpec,
        image: dict[str, Any],
        volumes: Sequence[str],
        copied: Sequence[str],
        archive: Path | None,
        max_bytes: int,
        owner: Owner,
    ) -> Sequence[Mount]:
        workspaces, size_mb = self._workspaces, workspace_mb(spec)
        made = await long_work(workspaces.make, spec.job_id, size_mb, archive, max_bytes, owner)
        if copied and (begun := await long_work(workspaces.begin_volumes, spec.job_id, copied)) is not None:
            # What a checkpoint brought is newer than what the image holds.
            filled = {path: at for path, at in begun.items() if archive is None or not is_below(path, WORKSPACE)}
            await self._copy_from_image(spec, image["Id"], filled, [path for path in volumes if path not in filled])
            giving_to = None if self._image_user else owner
            await long_work(workspaces.settle_volumes, spec.job_id, filled, volumes, giving_to)
        folders = {WORKSPACE: made, **workspaces.volumes(spec.job_id, copied)}
        return [Mount(path, str(folder), type="bind", propagation="rprivate") for path, folder in folders.items()]

    async def is_here(self, job_id: str) -> bool:
        return self._workspaces.is_here(job_id)

    async def put(self, job_id: str, given: InputFile, owner: Owner) -> None:
        await stoppable(lambda stopped: self._workspaces.put(job_id, given, owner, stopped))

    async def inputs_in(self, job_id: str) -> Set[int]:
        return await asyncio.to_thread(self._workspaces.inputs_in, job_id)

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str, selection: Selection = EVERYTHING
    ) -> PackedWorkspace | None:
        if (found := self._workspaces.find(job_id)) is None:
            return None
        return await stoppable(lambda stopped: pack(found, into, max_bytes, known_state, stopped, selection))

    async def remove(self, job_id: str) -> None:
        await long_work(self._workspaces.remove, job_id)

    async def jobs(self) -> Sequence[str]:
        return await asyncio.to_thread(self._workspaces.jobs)

    async def _copy_from_image(
        self, spec: ExecutionSpec, image_id: str, folders: Mapping[str, Path], others: Sequence[str]
    ) -> None:
        if not folders:
            return
        mounts = [volume_in(path, folder) for path, folder in folders.items()]
        try:
            await self._containers.copy(spec.job_id, lambda api: copier_config(api, spec, image_id, mounts, others))
        except (ExecutionError, ExecutorUnavailable) as error:
            if await asyncio.to_thread(self._workspaces.is_full, spec.job_id):
                raise does_not_fit(spec, folders) from error
            raise


def does_not_fit(spec: ExecutionSpec, paths: Mapping[str, object]) -> ExecutionError:
    return ExecutionError(
        f"what image {spec.image} holds below {', '.join(paths)} does not fit into {workspace_mb(spec)} MiB, half of "
        "the job's memory: ask for more of it"
    )
