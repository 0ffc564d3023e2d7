"""The containers of this node's jobs, found by their labels and ids. A name is only for people: it can be taken by a
stranger's container, and anybody may rename ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import APIError

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.engine import Engine
from dms.adapters.executors.engine_words import meaning
from dms.adapters.executors.job_ids import check_job_id
from dms.adapters.executors.profile import LABEL_JOB, LABEL_MANAGED, LABEL_NODE, LABEL_PART
from dms.application.ports.executor import Execution, ExecutionState
from dms.errors import ExecutionError, ExecutorUnavailable, NotFound

logger = logging.getLogger(__name__)

UNTIL_KILLED_SECONDS = 10.0
UNTIL_REMOVED_SECONDS = 60.0  # by somebody else: of a large one the engine has many files to delete
IMAGE_COPY = "image-copy"  # the part that copies what an image holds
_STATES = {
    "created": ExecutionState.CREATED,
    "running": ExecutionState.RUNNING,
    "paused": ExecutionState.RUNNING,
    "restarting": ExecutionState.RUNNING,
    "exited": ExecutionState.EXITED,
    "dead": ExecutionState.EXITED,
    "removing": ExecutionState.EXITED,
}
_START_TIME = 19  # among the fields of /proc/PID/stat behind the program's name

Config = Callable[[APIClient], dict[str, Any]]


class Containers:
    """node_id: only containers with this label are ours."""

    def __init__(self, node_id: str, calls: EngineCalls, engine: Engine) -> None:
        self._node_id, self._calls, self._engine = node_id, calls, engine
        self._ids: dict[str, str] = {}  # job id -> the engine's id, to be asked for directly

    async def find(self, job_id: str) -> dict[str, Any] | None:
        """What the engine says of this job's container."""
        check_job_id(job_id)
        if (known := self._ids.get(job_id)) and (found := await self.described(known)) is not None:
            return found
        self._ids.pop(job_id, None)
        listed = [each for each in await self._listed(job_id) if not each["Labels"].get(LABEL_PART)]
        for container in sorted(listed, key=lambda each: int(each["Created"])):
            if (found := await self.described(str(container["Id"]))) is not None:
                self._ids[job_id] = str(container["Id"])
                return found
        return None

    async def described(self, container: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._calls.ask(
                f"inspect {container}", lambda api: api.inspect_container(container)
            )
        except NotFound:
            return None
        return found

    async def create(self, job_id: str, config: Config) -> str:
        """Answers the engine's id."""
        name = f"dms-{job_id}"
        try:
            made = await self._create(name, config)
        except ExecutionError as error:
            if not _is_conflict(error):
                raise
            if (found := await self.find(job_id)) is not None:
                return str(found["Id"])  # made by a call whose answer nobody lived to see
            logger.info("the name %s is taken by a container that is not ours", name)
            made = await self._create(f"{name}-{secrets.token_hex(4)}", config)
        self._ids[job_id] = made
        return made

    async def copy(self, job_id: str, config: Config) -> None:
        """Creates a container only for what creating it copies, and removes it."""
        await self.remove_part(job_id, IMAGE_COPY)
        try:
            await self.create_part(job_id, IMAGE_COPY, config)
        finally:
            await self.remove_part(job_id, IMAGE_COPY)

    # --- parts: containers that are only tools for a job's ---
    async def part(self, job_id: str, part: str) -> dict[str, Any] | None:
        """What the engine says of the one that has this label."""
        for container in await self._parts(job_id, part):
            if (found := await self.described(container)) is not None:
                return found
        return None

    async def create_part(self, job_id: str, part: str, config: Config) -> str:
        """config: with the label of that part. Answers the engine's id."""
        return await self._create(f"dms-{job_id}-{part}-{secrets.token_hex(4)}", config)

    async def remove_part(self, job_id: str, part: str) -> None:
        await self._remove_all(await self._parts(job_id, part))

    async def start(self, job_id: str, container: str) -> None:
        """One that is gone is left alone."""
        try:
            await self._calls.work(f"start job {job_id}", lambda api: api.start(container))
        except NotFound as error:
            logger.info("job %s can't start, its container is gone: %s", job_id, error)

    async def signal(self, container: str, signal: str) -> None:
        try:
            await self._calls.ask(f"send {signal}", lambda api: api.kill(container, signal))
        except (ExecutionError, NotFound) as error:
            logger.debug("%s came too late for %s: %s", signal, container, error)  # it has exited

    async def exits_within(self, container: str, seconds: float) -> bool:
        return await self._comes_to(container, "not-running", seconds)

    async def remove(self, job_id: str) -> None:
        """Kills it if it runs. Its log, scratch and anonymous volumes go with it."""
        await self._remove_all([str(each["Id"]) for each in await self._listed(job_id)])
        self._ids.pop(job_id, None)

    async def jobs(self) -> Sequence[str]:
        """Of all containers of this node."""
        return [str(container["Labels"][LABEL_JOB]) for container in await self._list()]

    async def _list(self, *labels: str) -> list[dict[str, Any]]:
        wanted = [f"{LABEL_MANAGED}=true", f"{LABEL_NODE}={self._node_id}", *labels]
        found: list[dict[str, Any]] = await self._calls.ask(
            "list containers", lambda api: api.containers(all=True, filters={"label": wanted})
        )
        return found

    async def _listed(self, job_id: str) -> list[dict[str, Any]]:
        check_job_id(job_id)
        return await self._list(f"{LABEL_JOB}={job_id}")

    async def _parts(self, job_id: str, part: str) -> list[str]:
        return [str(each["Id"]) for each in await self._listed(job_id) if each["Labels"].get(LABEL_PART) == part]

    async def _create(self, name: str, config: Config) -> str:
        created = await self._calls.work(
            f"create {name}",
            lambda api: api.create_container_from_config(config(api), name),  # type: ignore[no-untyped-call]
        )
        return str(created["Id"])

    async def _remove_all(self, containers: Sequence[str]) -> None:
        for container in containers:
            await self._remove(container)

    async def _remove(self, container: str) -> None:
        try:
            await self._calls.work(
                f"remove {container}", lambda api: api.remove_container(container, v=True, force=True)
            )
        except NotFound:
            logger.debug("container %s was removed by someone else", container)
        except ExecutionError:  # someone else is just removing it?
            if not await self._comes_to(container, "removed", UNTIL_REMOVED_SECONDS):
                raise

    async def _comes_to(self, container: str, condition: str, seconds: float) -> bool:
        """condition: one of the engine's. A container that is gone has come to all of them."""
        path, query = f"/containers/{container}/wait", {"condition": condition}
        try:
            async with asyncio.timeout(seconds):
                async with self._engine.open(await self._calls.version(), "POST", path, query) as answer:
                    await answer.read()
                    return True
        except NotFound:
            return True
        except TimeoutError:
            return False


def execution_of(found: dict[str, Any]) -> Execution:
    """A container that could not start stays `created` with the reason and an exit code: for us it is over.

    OOMKilled is also true when only a child died and the job then ended well: that is not a failure."""
    state = found["State"]
    error, code = meaning(str(state.get("Error") or "")), int(state.get("ExitCode") or 0)
    ours = _STATES.get(state["Status"], ExecutionState.RUNNING)
    if ours is ExecutionState.CREATED and error:
        ours = ExecutionState.EXITED
    over = ours is ExecutionState.EXITED
    started_at = microseconds(state.get("StartedAt"))
    return Execution(
        state=ours,
        exit_code=code if over else None,
        oom_killed=over and bool(state.get("OOMKilled")) and code != 0,
        error=error,
        started_at=started_at,
        # The engine stamps a very short container's end before its start.
        finished_at=max(microseconds(state.get("FinishedAt")), started_at) if over else 0,
        started_boot_us=0 if over else process_start(int(state.get("Pid") or 0), str(found["Id"])),
    )


def process_start(pid: int, container: str) -> int:
    """When the container's first process began, in microseconds on this machine's boot clock; 0 when it is not to be
    seen here: it is over, or the engine's processes are another machine's."""
    try:
        if pid <= 0 or container not in Path(f"/proc/{pid}/cgroup").read_text("ascii", "replace"):
            return 0
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[_START_TIME]) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def microseconds(stamp: str | None) -> int:
    """RFC 3339 with up to nine digits of a second; the engine's zero time is the year 1. Raises ExecutorUnavailable."""
    if not stamp or stamp.startswith("0001-"):
        return 0
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", stamp))
        return int(moment.timestamp()) * 1_000_000 + moment.microsecond
    except (ValueError, OverflowError) as error:
        raise ExecutorUnavailable(f"Docker tells a time that can't be read: {stamp[:64]!r}") from error


def _is_conflict(error: ExecutionError) -> bool:
    return isinstance(error.__cause__, APIError) and error.__cause__.status_code == 409
