"""The rooms of containers: each job's workspace and what its image holds at its VOLUMEs, bounded, and read without the
job's doing. On this host where the DMS may mount, which outlives a restart of the engine; else in volumes of the
engine; else inside of the container, where it ends with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from docker.types import Mount

from dms.adapters.executors.engine_images import image_volumes
from dms.adapters.executors.images import parse_reference
from dms.adapters.executors.profile import UNPRIVILEGED
from dms.adapters.executors.volumes import copied_paths
from dms.adapters.executors.workspace_archive import Owner
from dms.application.ports.executor import ExecutionSpec, InputFile, PackedWorkspace
from dms.domain.results import Selection

logger = logging.getLogger(__name__)


class Workspaces(Protocol):
    """One way to have workspaces. Raises ExecutorUnavailable."""

    async def trouble(self) -> str:
        """Why there can be none, or nothing."""

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
        """What the job's container is to mount: a workspace filled from the archive, and a volume for each of
        `volumes`, with what the image holds at the paths `copied`. One that is ready is left as it is. Raises
        ArchiveRefused, ExecutionError (it does not fit)."""

    async def is_here(self, job_id: str) -> bool:
        """Whether there is one of that job, ready or not."""

    async def put(self, job_id: str, given: InputFile, owner: Owner) -> None:
        """As the executor's. Of a job whose workspace is here."""

    async def inputs_in(self, job_id: str) -> Set[int]:
        """As the executor's. Of a job whose workspace is here."""

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str, selection: Selection
    ) -> PackedWorkspace | None:
        """As the executor's. Of a job whose workspace is here."""

    async def remove(self, job_id: str) -> None:
        """Safe to repeat."""

    async def jobs(self) -> Sequence[str]: ...

    @property
    def trial(self) -> str:
        """The id of a job that is only made to see whether there can be workspaces; empty for none just now."""


class Rooms:
    """ways: the first that works here is taken for new jobs; none: each job has its workspace inside of its container.
    image_user: jobs run as the user that their image names."""

    def __init__(self, ways: Sequence[Workspaces], *, image_user: bool) -> None:
        self._ways, self._image_user = ways, image_user
        self._told = ""

    async def trouble(self) -> str:
        """Why jobs have no workspace that can be read, or nothing. Raises ExecutorUnavailable."""
        troubles = []
        for way in self._ways:
            if not (trouble := await way.trouble()):
                return ""
            troubles.append(trouble)
        return "; ".join(troubles) or "it is set up without"

    async def make(
        self, spec: ExecutionSpec, image: dict[str, Any], archive: Path | None = None, max_bytes: int = 0
    ) -> Sequence[Mount] | None:
        """None where there can't be any."""
        if (way := await self._of(spec.job_id) or await self._usable()) is None:
            return None
        config = image["Config"]
        volumes = image_volumes(parse_reference(spec.image), image)
        owner = self._owner(image)
        copied = copied_paths(volumes, str(config.get("WorkingDir") or ""))
        return await way.make(spec, image, volumes, copied, archive, max_bytes, owner)

    async def put(self, spec: ExecutionSpec, image: dict[str, Any], given: InputFile) -> bool:
        """Whether the job has a workspace."""
        if (way := await self._of(spec.job_id)) is None:
            return False
        await way.put(spec.job_id, given, self._owner(image))
        return True

    async def inputs_in(self, job_id: str) -> Set[int]:
        way = await self._of(job_id)
        return frozenset() if way is None else await way.inputs_in(job_id)

    def _owner(self, image: dict[str, Any]) -> Owner:
        return owner_of(str(image["Config"].get("User") or "") if self._image_user else UNPRIVILEGED)

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str, selection: Selection
    ) -> PackedWorkspace | None:
        way = await self._of(job_id)
        return None if way is None else await way.pack(job_id, into, max_bytes, known_state, selection)

    async def remove(self, job_id: str) -> None:
        for way in reversed(self._ways):
            await way.remove(job_id)

    async def jobs(self) -> Sequence[str]:
        return [job_id for way in self._ways for job_id in await way.jobs()]

    @property
    def trials(self) -> frozenset[str]:
        return frozenset(way.trial for way in self._ways)

    async def _of(self, job_id: str) -> Workspaces | None:
        for way in self._ways:
            if await way.is_here(job_id):
                return way
        return None

    async def _usable(self) -> Workspaces | None:
        for way in self._ways:
            if not await way.trouble():
                return way
        if (trouble := await self.trouble()) != self._told:
            logger.warning("jobs have no workspace that can be read, and give no results back: %s", trouble)
            self._told = trouble
        return None


def owner_of(user: str) -> Owner:
    """Of an image's USER; a name can't be looked up without running the image, so it counts as root."""
    uid, _, gid = user.partition(":")
    return Owner(int(uid) if uid.isdecimal() else 0, int(gid) if gid.isdecimal() else 0)
